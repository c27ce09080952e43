"""The reference's service on onnxruntime: `python service_onnxruntime.py`, settings in LOCUS_PEER (see service.py)."""

import service

NAME = "service_onnxruntime"


def session():
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if service.SETTINGS["threads"]:
        options.intra_op_num_threads = service.SETTINGS["threads"]
    return onnxruntime.InferenceSession(service.GRAPH, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    service.serve(NAME)
elif __name__ == NAME:
    running = session()
    app = service.create("onnxruntime", lambda row: running.run(None, row)[0][0].tolist())
