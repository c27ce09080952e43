//! What a graph holds, asked before a library loads it.

use locus_onnx::{GraphProto, TensorProto};

use crate::rewrite::{RewriteError, decode};

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

/// Refuses a graph whose weights lie in other files: a library would open whatever path they name.
///
/// # Errors
/// [`RewriteError::External`] with the first such tensor; [`RewriteError::Decode`] or [`RewriteError::NoGraph`].
pub(crate) fn self_contained(onnx: &[u8]) -> Result<(), RewriteError> {
    let model = decode(onnx)?;
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
}
