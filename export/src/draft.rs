//! A graph being written: nodes and constants with names that say where they stand.

use locus_onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto,
    type_proto,
};

/// ONNX operator set: the first with LayerNormalization, and one that ONNX Runtime 1.22 and tract read.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

#[derive(Default)]
pub(crate) struct Draft {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: value, r#type: AttributeType::Int as i32, ..Default::default() }
}

pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        ints: values.to_vec(),
        r#type: AttributeType::Ints as i32,
        ..Default::default()
    }
}

pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f: value, r#type: AttributeType::Float as i32, ..Default::default() }
}

impl Draft {
    /// Adds a node named after its first output and returns that name.
    pub(crate) fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        output: &str,
        attributes: Vec<AttributeProto>,
    ) -> String {
        self.nodes_of(op, inputs, &[output], attributes);
        output.to_owned()
    }

    pub(crate) fn nodes_of(
        &mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        self.nodes.push(NodeProto {
            input: owned(inputs),
            output: owned(outputs),
            name: format!("{}/{op}", outputs[0]),
            op_type: op.into(),
            attribute,
            ..Default::default()
        });
    }

    fn constant(&mut self, name: &str, kind: DataType, dims: &[usize], raw_data: Vec<u8>) -> String {
        if !self.constants.iter().any(|c| c.name == name) {
            let dims = dims.iter().map(|&d| d as i64).collect();
            self.constants.push(TensorProto {
                dims,
                data_type: kind as i32,
                name: name.into(),
                raw_data,
                ..Default::default()
            });
        }
        name.to_owned()
    }

    pub(crate) fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        self.constant(name, DataType::Float, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub(crate) fn longs(&mut self, name: &str, values: &[i64]) -> String {
        self.constant(
            name,
            DataType::Int64,
            &[values.len()],
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }

    pub(crate) fn codes(&mut self, name: &str, dims: &[usize], values: &[i8]) -> String {
        self.constant(name, DataType::Int8, dims, values.iter().map(|v| v.cast_unsigned()).collect())
    }

    pub(crate) fn finish(
        self,
        name: &str,
        input: Vec<ValueInfoProto>,
        output: Vec<ValueInfoProto>,
    ) -> ModelProto {
        ModelProto {
            ir_version: IR_VERSION,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            producer_name: "locus".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(GraphProto {
                node: self.nodes,
                name: name.into(),
                initializer: self.constants,
                input,
                output,
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

/// A graph input or output; dimensions that are no number are symbolic.
pub(crate) fn value(name: &str, kind: DataType, dims: &[&str]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |d: &&str| Dimension {
        value: Some(d.parse().map_or_else(|_| Value::DimParam((*d).to_owned()), Value::DimValue)),
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: kind as i32, shape: Some(shape) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)) }),
        ..Default::default()
    }
}
