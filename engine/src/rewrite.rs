//! The x86 rewrite: signed activations of a Q/DQ graph become unsigned, with the same numbers.
//!
//! A signed activation is q = clamp(round(x / s) + z, -128, 127), read back as s (q - z). With z + 128 in uint8,
//! every q moves by 128 and the clamp moves with it, so the real numbers are identical bit for bit; only the
//! kernel that multiplies them is another one (ONNX operators QuantizeLinear and DequantizeLinear, opset 13-21).
//! Weights stay signed.

use std::collections::{HashMap, HashSet};

use locus_onnx::{GraphProto, ModelProto, NodeProto, TensorProto};
use prost::Message;

/// `TensorProto.DataType` of ONNX.
const UINT8: i32 = 2;
const INT8: i32 = 3;
/// Signed to unsigned.
const SHIFT: i16 = 128;
/// Inputs of QuantizeLinear and DequantizeLinear.
const SCALE: usize = 1;
const ZERO_POINT: usize = 2;

/// Why a graph is not rewritten. Names are those of the graph.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// Not ONNX.
    #[error("the bytes are not an ONNX model ({detail})")]
    Decode {
        /// The decoder's words.
        detail: String,
    },
    /// Fields of ONNX that Locus never writes, does not look into and would lose.
    #[error(
        "the ONNX model has fields that Locus does not write; make the bundle again with `locus bundle create`"
    )]
    UnknownFields,
    /// Weights outside of the file.
    #[error(
        "tensor {tensor} keeps its values in another file, expected them in the graph; make the bundle again"
    )]
    External {
        /// Name of the tensor.
        tensor: String,
    },
    /// An operator that no graph of Locus has.
    #[error(
        "the ONNX model has the operator {operator}, which no graph of Locus has; do not use this bundle"
    )]
    Operator {
        /// Its domain and name.
        operator: String,
    },
    /// A graph of floats that computes on quantised numbers: tract would read its scales wrongly.
    #[error("the graph of floats has {operator} operators, expected none; make the bundle again")]
    Quantised {
        /// The first of them.
        operator: String,
    },
    /// A constant that is none.
    #[error("the ONNX model's constant {tensor} {what}; do not use this bundle")]
    Constant {
        /// Its name.
        tensor: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// No graph in the model.
    #[error("the ONNX model has no graph")]
    NoGraph,
    /// A subgraph, whose reads this pass does not see.
    #[error("node {node} has a subgraph, expected a flat graph")]
    Subgraph {
        /// Name of the node.
        node: String,
    },
    /// A zero point or scale that is computed, per axis, or of another type.
    #[error("{node}: its {what} is not a constant single int8 or uint8 value")]
    Parameter {
        /// Name of the node.
        node: String,
        /// `scale` or `zero_point`.
        what: &'static str,
    },
    /// A quantised tensor that something other than DequantizeLinear reads.
    #[error("{tensor} is read by {reader}, expected DequantizeLinear with the same zero point only")]
    Reader {
        /// Name of the quantised tensor.
        tensor: String,
        /// The operator that reads it.
        reader: String,
    },
}

/// A rewritten model.
#[derive(Debug, Clone)]
pub struct Rewritten {
    /// The model's bytes.
    pub onnx: Vec<u8>,
    /// Activations that were signed and are unsigned now.
    pub activations: usize,
}

/// Rewrites every signed activation of `onnx` as uint8 with its zero point moved by 128.
///
/// A graph whose activations are unsigned already comes back with `activations` 0.
///
/// # Errors
/// [`RewriteError`] when the graph is not flat, or an activation is quantised in a way this pass cannot prove
/// harmless; nothing is rewritten then.
pub fn unsigned_activations(onnx: &[u8]) -> Result<Rewritten, RewriteError> {
    let mut model = decode(onnx)?;
    // The messages leave out what Locus never writes; a decoder skips it, and encoding again would lose it.
    if model.encoded_len() != onnx.len() {
        return Err(RewriteError::UnknownFields);
    }
    let graph = model.graph.as_mut().ok_or(RewriteError::NoGraph)?;
    refuse_subgraphs(graph)?;
    let plan = plan(graph)?;
    let activations = plan.iter().filter(|step| graph.node[step.node].op_type == "QuantizeLinear").count();
    let renamed = add_zero_points(graph, &plan);
    let quantised: HashSet<String> = plan.iter().map(|step| step.tensor.clone()).collect();
    for step in &plan {
        let node = &mut graph.node[step.node];
        node.input.resize(node.input.len().max(ZERO_POINT + 1), String::new());
        node.input[ZERO_POINT].clone_from(&renamed[&(step.zero_point, step.dims.clone())]);
        // The zero point decides the type from now on.
        node.attribute
            .retain(|attribute| attribute.name != "output_dtype" || node.op_type != "QuantizeLinear");
    }
    graph.value_info.retain(|info| !quantised.contains(&info.name));
    Ok(Rewritten { onnx: model.encode_to_vec(), activations })
}

/// One node that gets another zero point.
struct Step {
    node: usize,
    /// The quantised tensor it writes or reads.
    tensor: String,
    /// The new value.
    zero_point: u8,
    /// Shape of the zero point: a scalar or one element.
    dims: Vec<i64>,
}

pub(crate) fn decode(onnx: &[u8]) -> Result<ModelProto, RewriteError> {
    ModelProto::decode(onnx).map_err(|error| RewriteError::Decode { detail: error.to_string() })
}

fn refuse_subgraphs(graph: &GraphProto) -> Result<(), RewriteError> {
    let nested = |node: &NodeProto| node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty());
    match graph.node.iter().find(|node| nested(node)) {
        Some(node) => Err(RewriteError::Subgraph { node: label(node) }),
        None => Ok(()),
    }
}

fn plan(graph: &GraphProto) -> Result<Vec<Step>, RewriteError> {
    let constants: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, node) in graph.node.iter().enumerate() {
        for input in &node.input {
            readers.entry(input.as_str()).or_default().push(at);
        }
    }
    let outputs: HashSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let mut steps = Vec::new();
    for (at, node) in graph.node.iter().enumerate() {
        let is_activation = node.op_type == "QuantizeLinear"
            && node.input.first().is_some_and(|input| !constants.contains_key(input.as_str()));
        if !is_activation {
            continue;
        }
        let (Some(tensor), Some((value, dims))) = (node.output.first(), signed_zero_point(node, &constants)?)
        else {
            continue;
        };
        let step = |node| Step { node, tensor: tensor.clone(), zero_point: value, dims: dims.clone() };
        steps.push(step(at));
        if outputs.contains(tensor.as_str()) {
            return Err(RewriteError::Reader { tensor: tensor.clone(), reader: "the graph's output".into() });
        }
        for reader in readers.get(tensor.as_str()).into_iter().flatten() {
            let node = &graph.node[*reader];
            let reads_back = node.op_type == "DequantizeLinear"
                && node.input.first() == Some(tensor)
                && node.input.iter().filter(|input| *input == tensor).count() == 1;
            if !reads_back || signed_zero_point(node, &constants)?.map(|(value, _)| value) != Some(value) {
                return Err(RewriteError::Reader { tensor: tensor.clone(), reader: node.op_type.clone() });
            }
            steps.push(step(*reader));
        }
    }
    Ok(steps)
}

/// The moved zero point of a signed per-tensor node and its shape; `None` when the node is unsigned.
fn signed_zero_point(
    node: &NodeProto,
    constants: &HashMap<&str, &TensorProto>,
) -> Result<Option<(u8, Vec<i64>)>, RewriteError> {
    let wrong = |what| RewriteError::Parameter { node: label(node), what };
    let constant = |at: usize| {
        let name = node.input.get(at).map(String::as_str).filter(|name| !name.is_empty())?;
        Some(constants.get(name).copied())
    };
    match constant(SCALE) {
        Some(Some(scale)) if single(scale) => {}
        _ => return Err(wrong("scale")),
    }
    let Some(zero_point) = constant(ZERO_POINT) else {
        // Without a zero point, DequantizeLinear takes 0 of its input's type, QuantizeLinear uint8 0 unless
        // `output_dtype` (opset 21) says otherwise.
        let says_int8 = node.attribute.iter().any(|a| a.name == "output_dtype" && a.i == i64::from(INT8));
        let signed = node.op_type == "DequantizeLinear" || says_int8;
        return Ok(signed.then(|| (SHIFT as u8, Vec::new())));
    };
    let zero_point = zero_point.filter(|tensor| single(tensor)).ok_or_else(|| wrong("zero_point"))?;
    match zero_point.data_type {
        UINT8 => Ok(None),
        INT8 => {
            let value = int8_value(zero_point).ok_or_else(|| wrong("zero_point"))?;
            Ok(Some(((i16::from(value) + SHIFT) as u8, zero_point.dims.clone())))
        }
        _ => Err(wrong("zero_point")),
    }
}

fn single(tensor: &TensorProto) -> bool {
    tensor.dims.iter().all(|dim| *dim == 1)
}

/// ONNX keeps int8 values as raw bytes or, one per element, in `int32_data`.
fn int8_value(tensor: &TensorProto) -> Option<i8> {
    match (tensor.raw_data.as_slice(), tensor.int32_data.as_slice()) {
        ([byte], []) => Some(byte.cast_signed()),
        ([], [value]) => i8::try_from(*value).ok(),
        _ => None,
    }
}

/// Adds one initialiser per new value and shape, under a name that nothing else has.
fn add_zero_points(graph: &mut GraphProto, plan: &[Step]) -> HashMap<(u8, Vec<i64>), String> {
    let taken: HashSet<String> = graph
        .node
        .iter()
        .flat_map(|node| node.input.iter().chain(&node.output))
        .chain(graph.initializer.iter().map(|tensor| &tensor.name))
        .cloned()
        .collect();
    let mut names = HashMap::new();
    for step in plan {
        let key = (step.zero_point, step.dims.clone());
        if names.contains_key(&key) {
            continue;
        }
        let mut name = format!("locus.unsigned_zero_point.{}.{}", step.zero_point, step.dims.len());
        while taken.contains(&name) {
            name.push('_');
        }
        graph.initializer.push(TensorProto {
            name: name.clone(),
            data_type: UINT8,
            dims: step.dims.clone(),
            raw_data: vec![step.zero_point],
            ..TensorProto::default()
        });
        names.insert(key, name);
    }
    names
}

fn label(node: &NodeProto) -> String {
    if node.name.is_empty() { node.op_type.clone() } else { node.name.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Draft, FLOAT, int_attribute, value_info};
    use locus_onnx::AttributeProto;

    /// x → Q → DQ → y, the zero point as `data_type` and `value`, shaped `dims`.
    fn chain(data_type: i32, dims: &[i64], value: u8, change: impl Fn(&mut Draft)) -> Vec<u8> {
        let mut draft = Draft::default();
        draft.floats("scale", dims, &vec![0.5; dims.iter().product::<i64>() as usize]);
        draft.constant("zero", data_type, dims, vec![value; dims.iter().product::<i64>() as usize]);
        draft.node("QuantizeLinear", &["x", "scale", "zero"], "q");
        draft.node("DequantizeLinear", &["q", "scale", "zero"], "y");
        change(&mut draft);
        draft.finish(vec![value_info("x", FLOAT, &["4"])], vec![value_info("y", FLOAT, &["4"])])
    }

    fn graph(onnx: &[u8]) -> GraphProto {
        decode(onnx).unwrap().graph.unwrap()
    }

    /// Every zero point that a node of `op_type` uses: its type and value.
    fn zero_points(onnx: &[u8], op_type: &str) -> Vec<(i32, Vec<u8>)> {
        let graph = graph(onnx);
        let of = |name: &str| graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
        let nodes = graph.node.iter().filter(|node| node.op_type == op_type);
        nodes
            .map(|node| of(&node.input[2]))
            .map(|tensor| (tensor.data_type, tensor.raw_data.clone()))
            .collect()
    }

    #[test]
    fn activations_move_and_weights_stay() {
        let signed = testing::pair_model(3, true);
        let rewritten = unsigned_activations(&signed).unwrap();
        assert_eq!(rewritten.activations, 2);
        assert_eq!(zero_points(&rewritten.onnx, "QuantizeLinear"), vec![(UINT8, vec![128]); 2]);
        let dequantised = zero_points(&rewritten.onnx, "DequantizeLinear");
        assert_eq!(dequantised.iter().filter(|(kind, _)| *kind == UINT8).count(), 2);
        assert_eq!(dequantised.iter().filter(|(kind, _)| *kind == INT8).count(), 2, "the two weights");
        let (before, after) = (graph(&signed), graph(&rewritten.onnx));
        for tensor in &before.initializer {
            assert!(after.initializer.contains(tensor), "{} changed", tensor.name);
        }
    }

    #[test]
    fn the_codes_of_both_forms_mean_the_same_numbers() {
        for step in -4000..4000 {
            let x = f64::from(step) * 0.01;
            let scaled = (x / 0.1).round_ties_even();
            let signed = scaled.clamp(-128.0, 127.0);
            let unsigned = (scaled + 128.0).clamp(0.0, 255.0) - 128.0;
            assert!((signed - unsigned).abs() < f64::EPSILON, "{x}");
        }
    }

    #[test]
    fn a_zero_point_beside_zero_moves_by_128_in_its_own_shape() {
        let rewritten = unsigned_activations(&chain(INT8, &[1], (-100_i8).cast_unsigned(), |_| {})).unwrap();
        assert_eq!(zero_points(&rewritten.onnx, "QuantizeLinear"), [(UINT8, vec![28])]);
        let graph = graph(&rewritten.onnx);
        let name = &graph.node[0].input[2];
        assert_eq!(graph.initializer.iter().find(|tensor| tensor.name == *name).unwrap().dims, [1]);
    }

    #[test]
    fn rewriting_twice_changes_nothing_more() {
        let once = unsigned_activations(&testing::pair_model(3, true)).unwrap();
        let twice = unsigned_activations(&once.onnx).unwrap();
        assert_eq!((twice.activations, &twice.onnx), (0, &once.onnx));
        let plain = testing::pair_model(3, false);
        assert_eq!(unsigned_activations(&plain).unwrap().onnx, plain);
    }

    #[test]
    fn types_noted_for_the_moved_tensor_are_dropped() {
        let noted = chain(INT8, &[], 0, |draft| {
            draft.graph.value_info.push(value_info("q", INT8, &["4"]));
            draft.graph.value_info.push(value_info("other", FLOAT, &["4"]));
        });
        let kept = graph(&unsigned_activations(&noted).unwrap().onnx).value_info;
        assert_eq!(kept.iter().map(|info| info.name.as_str()).collect::<Vec<_>>(), ["other"]);
    }

    #[test]
    fn what_cannot_be_proved_harmless_is_refused() {
        let int32 = 6;
        let another_reader = |draft: &mut Draft| drop(draft.node("Cast", &["q"], "z").name.clone());
        let another_zero = |draft: &mut Draft| {
            draft.constant("five", INT8, &[], vec![5]);
            draft.node("DequantizeLinear", &["q", "scale", "five"], "z");
        };
        let computed = |draft: &mut Draft| draft.graph.node[0].input[2] = "x".into();
        let branch = |draft: &mut Draft| {
            let then = AttributeProto {
                name: "then_branch".into(),
                g: Some(GraphProto::default()),
                ..Default::default()
            };
            draft.node("If", &["x"], "z").attribute.push(then);
        };
        let cases: [(&str, Vec<u8>); 7] = [
            ("another reader", chain(INT8, &[], 0, another_reader)),
            ("another zero point", chain(INT8, &[], 0, another_zero)),
            ("a computed zero point", chain(INT8, &[], 0, computed)),
            ("per axis", chain(INT8, &[4], 0, |_| {})),
            ("int32", chain(int32, &[], 0, |_| {})),
            ("a branch", chain(INT8, &[], 0, branch)),
            ("no graph", Vec::new()),
        ];
        for (name, onnx) in cases {
            assert!(unsigned_activations(&onnx).is_err(), "{name}");
        }
        assert!(matches!(unsigned_activations(&[0xff; 32]), Err(RewriteError::Decode { .. })));
        // Field 25 of ModelProto: functions, which Locus never writes.
        let functions = [chain(INT8, &[], 0, |_| {}), vec![0xca, 0x01, 0x00]].concat();
        assert!(matches!(unsigned_activations(&functions), Err(RewriteError::UnknownFields)));
    }

    #[test]
    fn a_type_said_by_attribute_alone_is_understood() {
        let by_attribute = chain(INT8, &[], 0, |draft| {
            draft.graph.node[0].input.truncate(2);
            draft.graph.node[0].attribute.push(int_attribute("output_dtype", i64::from(INT8)));
            draft.graph.node[1].input.truncate(2);
        });
        let rewritten = unsigned_activations(&by_attribute).unwrap();
        assert_eq!(rewritten.activations, 1);
        assert_eq!(zero_points(&rewritten.onnx, "QuantizeLinear"), [(UINT8, vec![128])]);
        assert_eq!(zero_points(&rewritten.onnx, "DequantizeLinear"), [(UINT8, vec![128])]);
        assert!(graph(&rewritten.onnx).node[0].attribute.is_empty());
        let unsigned_default = chain(INT8, &[], 0, |draft| draft.graph.node[0].input.truncate(2));
        assert_eq!(unsigned_activations(&unsigned_default).unwrap().activations, 0);
    }
}
