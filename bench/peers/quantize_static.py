"""ONNX Runtime's own static quantiser on a graph of ours: FP32 graph, calibration rows as JSON lines, graph to write."""

import json
import sys

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

float_graph, rows, quantised = sys.argv[1:4]


class Rows(CalibrationDataReader):
    def __init__(self, path):
        self.rows = iter([json.loads(line) for line in open(path)])

    def get_next(self):
        row = next(self.rows, None)
        if row is None:
            return None
        mask = [1] * len(row["ref_ids"])
        longs = {
            "ref_ids": row["ref_ids"],
            "alt_ids": row["alt_ids"],
            "ref_track": row["track"],
            "alt_track": row["track"],
            "ref_mask": mask,
            "alt_mask": mask,
        }
        feeds = {name: np.array([values], dtype=np.int64) for name, values in longs.items()}
        feeds["features"] = np.array([row["features"]], dtype=np.float32)
        return feeds


prepared = quantised + ".prepared"
quant_pre_process(float_graph, prepared, skip_symbolic_shape=True)
quantize_static(
    prepared,
    quantised,
    Rows(rows),
    quant_format=QuantFormat.QDQ,
    op_types_to_quantize=["MatMul"],
    per_channel=True,
    activation_type=QuantType.QUInt8,
    weight_type=QuantType.QInt8,
    extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"], "MatMulConstBOnly": True},
)
