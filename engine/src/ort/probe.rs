//! Proves the processor's unsigned by signed kernels with numbers near full range, once per process.
//!
//! Kernels without VNNI add two products in 16 bits: 2 × 255 × 127 = 64,770 does not fit 32,767 and is cut off
//! silently. CPUID is asked first; this probe catches a library that picks another kernel all the same.

use std::sync::OnceLock;

use locus_onnx::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto, type_proto,
};
use ort::session::Session;
use ort::value::TensorRef;
use prost::Message;

use super::library::Library;
use crate::rewrite;

const FLOAT: i32 = 1;
const INT8: i32 = 3;
/// Long enough that a kernel's main loop runs, with a remainder.
const DEPTH: usize = 133;
const COLUMNS: usize = 21;
/// Relative error that float scaling of an exact integer sum may have; saturation errs by tens of percent.
const TOLERANCE: f64 = 1e-5;

static PROBED: OnceLock<Result<(), String>> = OnceLock::new();

/// Whether the library multiplies uint8 activations by int8 weights exactly on this processor.
pub(super) fn unsigned_kernels_are_exact(library: &Library) -> Result<(), String> {
    PROBED.get_or_init(|| probe(library)).clone()
}

fn probe(library: &Library) -> Result<(), String> {
    let signed = full_range_model();
    let rewritten = rewrite::unsigned_activations(&signed).map_err(|error| error.to_string())?;
    let x: Vec<f32> = (0..DEPTH).map(|at| f32::from(activation(at))).collect();
    let got = run(library, &rewritten.onnx, &x).map_err(|error| error.to_string())?;
    if got.len() != COLUMNS {
        return Err(format!("the probe gave {} numbers, expected {COLUMNS}", got.len()));
    }
    for (column, got) in got.iter().enumerate() {
        let products = (0..DEPTH).map(|row| i32::from(activation(row)) * i32::from(weight(row, column)));
        let expected = f64::from(products.sum::<i32>());
        let error = (f64::from(*got) - expected).abs() / expected.abs().max(1.0);
        if error.is_nan() || error > TOLERANCE {
            return Err(format!("a full-range product gave {got}, expected {expected}"));
        }
    }
    Ok(())
}

fn run(library: &Library, onnx: &[u8], x: &[f32]) -> ort::Result<Vec<f32>> {
    let mut session =
        Session::builder(&library.environment)?.with_intra_threads(1)?.commit_from_memory(onnx)?;
    let outputs = session.run(ort::inputs!["x" => TensorRef::from_array_view(([1, DEPTH], x))?])?;
    let (_, values) = outputs[0].try_extract_tensor::<f32>()?;
    Ok(values.to_vec())
}

/// 127, 126, 127, -128, …: mostly the top of the range, so that neighbouring products share their sign.
fn activation(row: usize) -> i8 {
    match row % 8 {
        7 => -128,
        odd if odd % 2 == 1 => 126,
        _ => 127,
    }
}

fn weight(row: usize, column: usize) -> i8 {
    let size = 127 - ((row + column) % 3) as i8;
    if column % 2 == 1 { -size } else { size }
}

/// x → Q → DQ → MatMul with an int8 weight, signed, all scales 1.
fn full_range_model() -> Vec<u8> {
    let weights: Vec<u8> = (0..DEPTH)
        .flat_map(|row| (0..COLUMNS).map(move |column| weight(row, column).cast_unsigned()))
        .collect();
    let tensor = |name: &str, data_type, dims: &[i64], raw_data: Vec<u8>| TensorProto {
        name: name.to_owned(),
        data_type,
        dims: dims.to_vec(),
        raw_data,
        ..TensorProto::default()
    };
    let node = |op_type: &str, input: &[&str], output: &str| NodeProto {
        op_type: op_type.to_owned(),
        name: output.to_owned(),
        input: input.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    };
    let graph = GraphProto {
        name: "probe".into(),
        node: vec![
            node("QuantizeLinear", &["x", "one", "zero"], "q"),
            node("DequantizeLinear", &["q", "one", "zero"], "a"),
            node("DequantizeLinear", &["w8", "one", "zero"], "w"),
            node("MatMul", &["a", "w"], "y"),
        ],
        initializer: vec![
            tensor("one", FLOAT, &[], 1.0_f32.to_le_bytes().to_vec()),
            tensor("zero", INT8, &[], vec![0]),
            tensor("w8", INT8, &[DEPTH as i64, COLUMNS as i64], weights),
        ],
        input: vec![float_matrix("x", DEPTH)],
        output: vec![float_matrix("y", COLUMNS)],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
    let model =
        ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..ModelProto::default() };
    model.encode_to_vec()
}

fn float_matrix(name: &str, columns: usize) -> ValueInfoProto {
    let dim = |size: usize| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(size as i64)),
    };
    let shape = TensorShapeProto { dim: vec![dim(1), dim(columns)] };
    let tensor = type_proto::Tensor { elem_type: FLOAT, shape: Some(shape) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..ValueInfoProto::default() }
}
