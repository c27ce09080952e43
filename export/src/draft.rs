//! A graph being written: nodes and constants with names that say where they stand.

use half::f16;
use locus_onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto,
    type_proto,
};

use crate::ExportError;

/// ONNX operator set and version of the file format: the first set with LayerNormalization, and one that ONNX Runtime 1.22
/// and tract read.
const SINGLE: (i64, i64) = (17, 8);
/// The first set in which half precision is quantised.
const HALF: (i64, i64) = (19, 9);

#[derive(Default)]
pub(crate) struct Draft {
    /// Whether numbers that are no codes are in half precision.
    half: bool,
    /// Whether activations are rounded to codes in single precision all the same.
    rounds_in_single: bool,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    /// The first constant that half precision cannot hold.
    too_large: Option<(String, f32)>,
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
    /// A graph whose numbers are in half precision, but for what goes in and out.
    pub(crate) fn half() -> Self {
        Self { half: true, ..Self::default() }
    }

    /// The same, whose activations are rounded to codes in single precision.
    pub(crate) fn rounding_in_single(self) -> Self {
        Self { rounds_in_single: true, ..self }
    }

    pub(crate) const fn is_half(&self) -> bool {
        self.half
    }

    /// What a number is that is no code.
    const fn number(&self) -> DataType {
        if self.half { DataType::Float16 } else { DataType::Float }
    }

    /// Whole numbers as the graph's numbers.
    pub(crate) fn cast(&mut self, x: &str, output: &str) -> String {
        let to = int("to", self.number() as i64);
        self.node("Cast", &[x], output, vec![to])
    }

    /// A float32 input as the graph's numbers.
    pub(crate) fn entered(&mut self, x: &str) -> String {
        if self.half { self.cast(x, &format!("{x}.half")) } else { x.to_owned() }
    }

    /// The graph's numbers as a float32 output.
    pub(crate) fn leaving(&mut self, x: &str, output: &str) {
        if self.half {
            self.node("Cast", &[x], output, vec![int("to", DataType::Float as i64)]);
        } else {
            self.node("Identity", &[x], output, vec![]);
        }
    }

    /// An activation through signed codes of one scale and back.
    pub(crate) fn rounded(&mut self, x: &str, name: &str, scale: f32) -> String {
        let single = self.half && self.rounds_in_single;
        let (mut x, s) = (x.to_owned(), format!("{name}.scale"));
        let s = if single {
            x = self.node("Cast", &[&x], &format!("{name}.single"), vec![int("to", DataType::Float as i64)]);
            self.constant(&s, DataType::Float, &[], scale.to_le_bytes().to_vec())
        } else {
            self.floats(&s, &[], &[scale])
        };
        let z = self.codes(&format!("{name}.zero_point"), &[], &[0]);
        let q = self.node("QuantizeLinear", &[&x, &s, &z], &format!("{name}.quantised"), vec![]);
        let x = self.node("DequantizeLinear", &[&q, &s, &z], &format!("{name}.dequantised"), vec![]);
        if single { self.cast(&x, &format!("{name}.half")) } else { x }
    }

    /// Equal parts along the last axis.
    pub(crate) fn split(&mut self, x: &str, outputs: &[&str]) {
        let mut attributes = vec![int("axis", -1)];
        if self.half {
            // From set 18 on the number is said.
            attributes.push(int("num_outputs", outputs.len() as i64));
        }
        self.nodes_of("Split", &[x], outputs, attributes);
    }

    /// Largest or least value over the second axis.
    pub(crate) fn over_tokens(&mut self, op: &str, x: &str, output: &str) -> String {
        let keep = int("keepdims", 0);
        if self.half {
            let one = self.longs("axis.1", &[1]);
            self.node(op, &[x, &one], output, vec![keep])
        } else {
            self.node(op, &[x], output, vec![ints("axes", &[1]), keep])
        }
    }

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

    fn nodes_of(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) {
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
        if !self.half {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            return self.constant(name, DataType::Float, dims, bytes);
        }
        let beyond = |v: &&f32| v.abs() > f16::MAX.to_f32();
        if let (None, Some(&value)) = (&self.too_large, values.iter().find(beyond)) {
            self.too_large = Some((name.to_owned(), value));
        }
        let bytes = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        self.constant(name, DataType::Float16, dims, bytes)
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
    ) -> Result<ModelProto, ExportError> {
        if let Some((name, value)) = self.too_large {
            return Err(ExportError::Tensor {
                name,
                got: format!("the value {value}"),
                expected: format!("at most {} in half precision", f16::MAX),
            });
        }
        let (version, ir_version) = if self.half { HALF } else { SINGLE };
        Ok(ModelProto {
            ir_version,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version }],
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
        })
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
