//! What a graph holds, asked before a library loads it.

use locus_onnx::{GraphProto, TensorProto};
use prost::Message;

use crate::rewrite::{RewriteError, decode};

/// Operators of the graphs that Locus writes, and of those that make no more out of what they read than its size. Others
/// could fill the memory from a few bytes (`ConstantOfShape`, `Expand`, `Tile`, `Range`), run for ever (`Loop`) or read files.
const OPERATORS: [&str; 44] = [
    "Abs",
    "Add",
    "And",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "DequantizeLinear",
    "Div",
    "Equal",
    "Erf",
    "Exp",
    "Gather",
    "Gemm",
    "Greater",
    "Identity",
    "LayerNormalization",
    "Less",
    "Log",
    "MatMul",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Not",
    "Pow",
    "QuantizeLinear",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
];
/// Most numbers in one constant.
const MAX_NUMBERS: i64 = 1 << 28;

/// Refuses a graph that would take more memory or time than its size allows for, or whose constants are no numbers.
///
/// # Errors
/// [`RewriteError::Operator`], [`RewriteError::Constant`], [`RewriteError::Decode`] or [`RewriteError::NoGraph`].
pub(crate) fn bounded(onnx: &[u8]) -> Result<(), RewriteError> {
    let model = decode(onnx)?;
    let graph = model.graph.as_ref().ok_or(RewriteError::NoGraph)?;
    let short = |text: &str| text.chars().take(64).collect::<String>();
    for node in &graph.node {
        if !OPERATORS.contains(&node.op_type.as_str()) || !matches!(node.domain.as_str(), "" | "ai.onnx") {
            let operator = short(&format!("{}{}", node.domain, node.op_type));
            return Err(RewriteError::Operator { operator });
        }
    }
    let constants =
        graph.node.iter().flat_map(|node| &node.attribute).filter_map(|attribute| attribute.t.as_ref());
    for tensor in graph.initializer.iter().chain(constants) {
        if let Some(what) = constant_problem(tensor) {
            return Err(RewriteError::Constant { tensor: short(&tensor.name), what });
        }
    }
    Ok(())
}

/// What is wrong with a constant: a shape that its bytes do not fill, or floats that are none.
fn constant_problem(tensor: &TensorProto) -> Option<&'static str> {
    let times =
        |numbers: i64, dim: &i64| numbers.checked_mul(*dim).filter(|n| *dim >= 0 && *n <= MAX_NUMBERS);
    let Some(numbers) = tensor.dims.iter().try_fold(1, times) else { return Some("has an impossible shape") };
    let width = match tensor.data_type {
        2 | 3 | 9 => 1,
        4 | 5 | 10 => 2,
        1 | 6 | 12 => 4,
        7 | 11 | 13 => 8,
        _ => return Some("has a type that no graph of Locus has"),
    };
    let raw = &tensor.raw_data;
    let lists = [tensor.float_data.len(), tensor.int32_data.len(), tensor.int64_data.len()];
    let listed: i64 = lists.iter().map(|len| *len as i64).sum();
    let filled =
        if raw.is_empty() { listed == numbers } else { listed == 0 && raw.len() as i64 == numbers * width };
    if !filled {
        return Some("has another shape than its numbers");
    }
    let finite = match tensor.data_type {
        1 => raw.chunks_exact(4).all(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite()),
        // Half precision: all exponent bits set are an infinity or no number.
        10 => raw.chunks_exact(2).all(|b| u16::from_le_bytes([b[0], b[1]]) & 0x7c00 != 0x7c00),
        _ => true,
    };
    (!finite || tensor.float_data.iter().any(|value| !value.is_finite()))
        .then_some("holds numbers that are not finite")
}

/// Operators of a model that compute on quantised numbers, each name once, sorted.
///
/// # Errors
/// [`RewriteError::Decode`] or [`RewriteError::NoGraph`].
pub(crate) fn quantised_operators(onnx: &[u8]) -> Result<Vec<String>, RewriteError> {
    let model = decode(onnx)?;
    let graph = model.graph.as_ref().ok_or(RewriteError::NoGraph)?;
    let quantised = |op: &str| {
        matches!(
            op,
            "QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear" | "MatMulInteger" | "ConvInteger"
        ) || op.starts_with("QLinear")
            || op.starts_with("QAttention")
            || op.starts_with("QGemm")
    };
    let mut names: Vec<String> =
        graph.node.iter().map(|node| &node.op_type).filter(|op| quantised(op)).cloned().collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Refuses a graph whose weights lie in other files: a library would open whatever path they name. They could also
/// be named where the messages here do not look (functions, sparse tensors), so a file that holds anything else than
/// was decoded is refused as well.
///
/// # Errors
/// [`RewriteError::External`] with the first such tensor; [`RewriteError::UnknownFields`], [`RewriteError::Decode`]
/// or [`RewriteError::NoGraph`].
pub(crate) fn self_contained(onnx: &[u8]) -> Result<(), RewriteError> {
    let model = decode(onnx)?;
    // The bytes, not their number: a list in another encoding gets longer, which would make room for a field.
    if model.encode_to_vec() != onnx {
        return Err(RewriteError::UnknownFields);
    }
    match external_tensor(model.graph.as_ref().ok_or(RewriteError::NoGraph)?) {
        None => Ok(()),
        Some(tensor) => Err(RewriteError::External { tensor: tensor.name.chars().take(64).collect() }),
    }
}

/// Depth is bounded by the decoder's own limit of nested messages.
fn external_tensor(graph: &GraphProto) -> Option<&TensorProto> {
    let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
    let constants = attributes().filter_map(|attribute| attribute.t.as_ref());
    let mut tensors = graph.initializer.iter().chain(constants);
    tensors.find(|tensor| tensor.data_location != 0 || !tensor.external_data.is_empty()).or_else(|| {
        attributes()
            .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
            .find_map(external_tensor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Draft, FLOAT, value_info};
    use locus_onnx::{AttributeProto, StringStringEntryProto};

    #[test]
    fn quantised_operators_are_listed_once() {
        let operators = quantised_operators(&testing::pair_model(3, true)).unwrap();
        assert_eq!(operators, ["DequantizeLinear", "QuantizeLinear"]);
        assert!(quantised_operators(&testing::pair_model(3, false)).unwrap().is_empty());
    }

    fn external() -> TensorProto {
        let location = StringStringEntryProto { key: "location".into(), value: "../../etc/passwd".into() };
        TensorProto {
            name: "w".into(),
            data_type: FLOAT,
            dims: vec![1],
            data_location: 1,
            external_data: vec![location],
            ..TensorProto::default()
        }
    }

    fn finish(draft: Draft) -> Vec<u8> {
        draft.finish(vec![value_info("x", FLOAT, &["1"])], vec![value_info("y", FLOAT, &["1"])])
    }

    #[test]
    fn weights_in_other_files_are_refused_wherever_they_hide() {
        assert!(self_contained(&testing::pair_model(3, true)).is_ok());
        let mut initializer = Draft::default();
        initializer.graph.initializer.push(external());
        let mut constant = Draft::default();
        let value = AttributeProto { name: "value".into(), t: Some(external()), ..Default::default() };
        constant.node("Constant", &[], "w").attribute.push(value.clone());
        let mut branch = Draft::default();
        let mut inner = Draft::default();
        inner.node("Constant", &[], "w").attribute.push(value);
        let then = AttributeProto { name: "then_branch".into(), g: Some(inner.graph), ..Default::default() };
        branch.node("If", &["x"], "y").attribute.push(then);
        for draft in [initializer, constant, branch] {
            let error = self_contained(&finish(draft)).unwrap_err();
            assert!(matches!(&error, RewriteError::External { tensor } if tensor == "w"), "{error}");
        }
    }

    #[test]
    fn graphs_that_ask_for_more_than_they_bring_are_refused() {
        for quantised in [false, true] {
            bounded(&testing::pair_model(3, quantised)).unwrap();
        }
        let refused = |change: fn(&mut Draft)| {
            let mut draft = Draft::default();
            draft.floats("w", &[2], &[1.0, 2.0]);
            change(&mut draft);
            bounded(&finish(draft)).unwrap_err().to_string()
        };
        for operator in ["ConstantOfShape", "Expand", "Tile", "Range", "Loop", "Scan", "If", "RandomNormal"] {
            let mut draft = Draft::default();
            draft.node(operator, &["x"], "y");
            let error = bounded(&finish(draft)).unwrap_err();
            assert!(matches!(&error, RewriteError::Operator { operator: got } if got == operator), "{error}");
        }
        let foreign = refused(|d| d.node("Add", &["x", "w"], "y").domain = "com.evil".into());
        assert!(foreign.contains("com.evilAdd"), "{foreign}");
        assert!(
            refused(|d| d.graph.initializer[0].dims = vec![1 << 40, 1 << 40]).contains("impossible shape")
        );
        assert!(refused(|d| d.graph.initializer[0].dims = vec![-2, -1]).contains("impossible shape"));
        assert!(refused(|d| d.graph.initializer[0].dims = vec![3]).contains("another shape"));
        assert!(refused(|d| d.graph.initializer[0].data_type = 8).contains("type"));
        assert!(refused(|d| d.floats("v", &[1], &[f32::NAN])).contains("not finite"));
        assert!(refused(|d| d.constant("h", 10, &[1], vec![0, 0x7c])).contains("not finite"));
    }

    /// One field of a message: its number, wire type 2, and content of under 128 bytes.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let tag = u16::from(number) << 3 | 2;
        let tag = if tag < 128 { vec![tag as u8] } else { vec![tag as u8 | 0x80, (tag >> 7) as u8] };
        [tag, vec![content.len() as u8], content.to_vec()].concat()
    }

    #[test]
    fn what_the_messages_do_not_hold_is_refused() {
        let good = finish(Draft::default());
        assert!(self_contained(&good).is_ok());
        // ModelProto.functions, field 25, whose node (7) has an attribute (5) with a tensor (5) in another file.
        let node = field(5, &field(5, &external().encode_to_vec()));
        let hidden = [good.clone(), field(25, &field(7, &node))].concat();
        assert!(matches!(self_contained(&hidden), Err(RewriteError::UnknownFields)));
        // A list of one number gets a byte longer when it is packed: two of them make room for an unknown field.
        let mut lists = Draft::default();
        lists.constant("w", FLOAT, &[], vec![0; 4]);
        let mut model = decode(&finish(lists)).unwrap();
        let unpacked = TensorProto { name: "w".into(), ..TensorProto::default() }.encode_to_vec();
        let tensor = [&[0x08, 1, 0x08, 1][..], &unpacked].concat();
        let packed = TensorProto::decode(tensor.as_slice()).unwrap();
        assert_eq!(packed.encoded_len(), tensor.len(), "the same length");
        model.graph.as_mut().unwrap().initializer = vec![packed];
        let bytes = model.encode_to_vec();
        let at = bytes.windows(4).position(|four| four == [0x0a, 2, 1, 1]).unwrap();
        let mut other = bytes.clone();
        other[at..at + 4].copy_from_slice(&[0x08, 1, 0x08, 1]);
        assert!(self_contained(&bytes).is_ok());
        assert!(matches!(self_contained(&other), Err(RewriteError::UnknownFields)));
    }
}
