//! The graphs as graphs: what is quantised, what everything is called, and what is not lowered.

use std::collections::{BTreeMap, BTreeSet};

use locus_calibration::Range;
use locus_onnx::{GraphProto, NodeProto, TensorProto, type_proto};

use super::*;

const HIDDEN: usize = 8;
/// Every product with a weight that is quantised, and the name of the activation that enters it.
const QUANTISED: [(&str, &str); 7] = [
    ("layer.0.attention.qkv", "layer.0.attention.qkv_input"),
    ("layer.0.attention.output", "layer.0.attention.output_input"),
    ("layer.0.ffn.inner", "layer.0.ffn.input"),
    ("layer.0.ffn.output", "layer.0.ffn.output_input"),
    ("head.features.1", "head.features.dense1_input"),
    ("head.features.2", "head.features.dense2_input"),
    ("head.inner", "head.dense_input"),
];

pub(crate) fn config(norm_position: &str) -> ModelConfig {
    ModelConfig {
        model_type: "bert".into(),
        vocab_size: 69,
        type_vocab_size: 9,
        hidden_size: HIDDEN,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 16,
        hidden_act: "gelu".into(),
        max_position_embeddings: 64,
        layer_norm_eps: 1e-12,
        hidden_dropout_prob: 0.1,
        attention_probs_dropout_prob: 0.0,
        initializer_range: 0.02,
        norm_position: norm_position.into(),
        head: Default::default(),
        frames: 1,
        counted: 0,
        wide: None,
        layer_sizes: Vec::new(),
        labels: vec!["pathogenic".into()],
        n_features: 5,
        track_codes: vec![],
    }
}

/// A checkpoint of any shape: row r of a matrix holds r + 1, so that each output channel has its own scale.
#[derive(Default)]
struct Made {
    lacks: &'static str,
    breaks: &'static str,
}

impl WeightSource for Made {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ExportError> {
        if name == self.lacks {
            let (got, expected) = ("nothing".into(), format!("F32 {shape:?}"));
            return Err(ExportError::Tensor { name: name.into(), got, expected });
        }
        let columns = shape.get(1).copied().unwrap_or(1);
        let mut values: Vec<f32> = (0..shape.iter().product()).map(|at| (at / columns + 1) as f32).collect();
        if name == self.breaks {
            values[0] = f32::NAN;
        }
        Ok(values)
    }
}

/// Range n + 1 for the n-th activation.
fn table() -> CalibrationTable {
    let range = |n: usize| Range { min: -0.5, max: (n + 1) as f32 };
    let ranges = QUANTISED.iter().enumerate().map(|(n, (_, name))| ((*name).to_owned(), range(n))).collect();
    CalibrationTable { method: "min-max".into(), samples: 1, ranges, ..Default::default() }
}

fn int8(norm_position: &str) -> GraphProto {
    build_int8(&config(norm_position), &Made::default(), &table()).unwrap().graph.unwrap()
}

fn fp32(norm_position: &str) -> GraphProto {
    build_fp32(&config(norm_position), &Made::default()).unwrap().graph.unwrap()
}

fn of<'a>(graph: &'a GraphProto, op: &'a str) -> impl Iterator<Item = &'a NodeProto> {
    graph.node.iter().filter(move |node| node.op_type == op)
}

fn writer<'a>(graph: &'a GraphProto, output: &str) -> Option<&'a NodeProto> {
    graph.node.iter().find(|node| node.output.iter().any(|o| o == output))
}

fn constant<'a>(graph: &'a GraphProto, name: &str) -> &'a TensorProto {
    graph.initializer.iter().find(|tensor| tensor.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    assert_eq!(tensor.data_type, DataType::Float as i32, "{}", tensor.name);
    tensor.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn both_factors_of_every_product_with_a_weight_pass_through_q_and_dq_and_no_others() {
    for norm in ["pre", "post"] {
        let graph = int8(norm);
        let dequantised =
            |name: &String| writer(&graph, name).is_some_and(|n| n.op_type == "DequantizeLinear");
        let mut seen = BTreeSet::new();
        for product in of(&graph, "MatMul") {
            match product.input.iter().filter(|name| dequantised(name)).count() {
                0 => {}
                2 => drop(seen.insert(product.output[0].clone())),
                _ => panic!("{} has one quantised factor", product.name),
            }
        }
        let expected: BTreeSet<String> =
            QUANTISED.iter().map(|(name, _)| format!("{name}.product")).collect();
        assert_eq!(seen, expected, "{norm}");
        for node in graph.node.iter().filter(|node| node.op_type != "MatMul") {
            assert!(!node.input.iter().any(dequantised), "{} reads a quantised value", node.name);
        }
        assert_eq!(of(&graph, "QuantizeLinear").count(), QUANTISED.len());
        assert_eq!(of(&graph, "DequantizeLinear").count(), 2 * QUANTISED.len());
    }
}

#[test]
fn the_residual_reads_what_was_not_quantised() {
    let graph = int8("post");
    // Post-norm: one value is the residual and the input of the next product.
    let residual = writer(&graph, "layer.0.attention.residual").unwrap();
    let quantise = writer(&graph, "layer.0.attention.qkv_input.quantised").unwrap();
    assert_eq!(residual.input[0], "embeddings");
    assert_eq!(quantise.input[0], "embeddings");
    let residual = writer(&graph, "layer.0.ffn.residual").unwrap();
    assert_eq!(residual.input[0], writer(&graph, "layer.0.ffn.input.quantised").unwrap().input[0]);
}

#[test]
fn activations_have_one_signed_scale_and_weights_one_per_output() {
    let graph = int8("pre");
    for (n, (product, activation)) in QUANTISED.iter().enumerate() {
        let (scale, zero) = (format!("{activation}.scale"), format!("{activation}.zero_point"));
        for part in ["quantised", "dequantised"] {
            let node = writer(&graph, &format!("{activation}.{part}")).unwrap();
            assert_eq!(node.input[1..], [scale.clone(), zero.clone()]);
        }
        assert_eq!(
            (constant(&graph, &scale).dims.len(), floats(constant(&graph, &scale))),
            (0, vec![(n + 1) as f32 / 127.0])
        );
        let zero = constant(&graph, &zero);
        assert_eq!((zero.data_type, &zero.raw_data[..]), (DataType::Int8 as i32, &[0][..]));

        let weight = constant(&graph, &format!("{product}.weight"));
        let [inputs, outputs] = weight.dims[..] else { panic!("{:?}", weight.dims) };
        let dequantise = writer(&graph, &format!("{product}.weight.dequantised")).unwrap();
        assert_eq!(
            (weight.data_type, weight.raw_data.len() as i64),
            (DataType::Int8 as i32, inputs * outputs)
        );
        assert_eq!(dequantise.attribute, [int("axis", 1)]);
        let scales = floats(constant(&graph, &format!("{product}.weight.scale")));
        assert_eq!(scales.len() as i64, outputs);
        // Every channel is constant, so each code is the largest, and the matrix is transposed: [inputs, outputs].
        assert!(weight.raw_data.iter().all(|code| *code == 127), "{product}");
        let blocks = if product.ends_with("qkv") { 3 } else { 1 };
        for (at, scale) in scales.iter().enumerate() {
            assert_eq!(*scale, (at % (outputs as usize / blocks) + 1) as f32 / 127.0, "{product} {at}");
        }
        // A bias in int32 would have to have the product of both scales, which TensorRT refuses.
        assert_eq!(floats(constant(&graph, &format!("{product}.bias"))).len() as i64, outputs);
    }
}

#[test]
fn the_last_product_and_all_of_fp32_stay_float() {
    let (whole, float) = (int8("pre"), fp32("pre"));
    assert_eq!(floats(constant(&whole, "head.logits.weight")), [1.0; 128]);
    assert!(
        float
            .node
            .iter()
            .all(|node| !node.op_type.contains("Quantize") && !node.op_type.contains("Dequantize"))
    );
    for (product, _) in QUANTISED {
        assert!(!floats(constant(&float, &format!("{product}.weight"))).is_empty());
    }
}

fn int8_fp16() -> ModelProto {
    build_int8_fp16(&config("pre"), &Made::default(), &table()).unwrap()
}

#[test]
fn beside_int8_no_number_is_wider_than_half() {
    let model = int8_fp16();
    assert_eq!((model.opset_import[0].version, model.ir_version), (19, 9));
    let graph = model.graph.unwrap();
    for tensor in &graph.initializer {
        assert_ne!(tensor.data_type, DataType::Float as i32, "{}", tensor.name);
    }
    let to = |node: &NodeProto| node.attribute.iter().find(|a| a.name == "to").map(|a| a.i);
    let casts: Vec<_> = of(&graph, "Cast").filter(|n| to(n) == Some(DataType::Float as i64)).collect();
    assert_eq!(casts.len(), 1);
    assert_eq!(casts[0].output, ["logits"]);
}

#[test]
fn a_number_beyond_half_precision_is_named() {
    // Row r of a matrix holds r + 1.
    let config = ModelConfig { vocab_size: 65_600, ..config("pre") };
    let error = build_int8_fp16(&config, &Made::default(), &table()).unwrap_err().to_string();
    assert!(error.contains("word_embeddings.weight") && error.contains("65504"), "{error}");
    assert!(build_int8(&config, &Made::default(), &table()).is_ok());
}

#[test]
fn layers_are_those_that_are_quantised_and_each_may_stay_float() {
    let all = layers(&config("pre")).unwrap();
    let names: Vec<(&str, &str)> = all.iter().map(|l| (l.name.as_str(), l.activation.as_str())).collect();
    assert_eq!(names, QUANTISED);
    assert_eq!(all[0].weights, 3 * HIDDEN * HIDDEN);
    let kept = CalibrationTable { float: ["layer.0.ffn.inner".to_owned()].into(), ..table() };
    let graph = build_int8(&config("pre"), &Made::default(), &kept).unwrap().graph.unwrap();
    assert_eq!(of(&graph, "QuantizeLinear").count(), QUANTISED.len() - 1);
    assert!(!floats(constant(&graph, "layer.0.ffn.inner.weight")).is_empty());
}

#[test]
fn every_name_is_written_once_and_read_after() {
    for graph in [fp32("pre"), fp32("post"), int8("pre"), int8("post"), int8_fp16().graph.unwrap()] {
        let mut known: BTreeSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
        for tensor in &graph.initializer {
            assert!(known.insert(&tensor.name), "{} twice", tensor.name);
        }
        for node in &graph.node {
            for name in &node.input {
                assert!(known.contains(name.as_str()), "{} reads {name} before it is written", node.name);
            }
            for name in &node.output {
                assert!(known.insert(name), "{name} twice");
            }
            assert_eq!(node.name, format!("{}/{}", node.output[0], node.op_type));
        }
    }
}

#[test]
fn inputs_and_outputs_are_those_of_the_contract() {
    let graph = int8("pre");
    let kind = |info: &locus_onnx::ValueInfoProto| match &info.r#type.as_ref().unwrap().value {
        Some(type_proto::Value::TensorType(tensor)) => tensor.elem_type,
        None => panic!("{} has no type", info.name),
    };
    let found: BTreeMap<&str, i32> = graph.input.iter().map(|i| (i.name.as_str(), kind(i))).collect();
    let mut expected: BTreeMap<&str, i32> =
        ["ref_ids", "alt_ids", "ref_track", "alt_track", "ref_mask", "alt_mask"]
            .map(|name| (name, DataType::Int64 as i32))
            .into();
    expected.insert("features", DataType::Float as i32);
    assert_eq!(found, expected);
    assert_eq!((graph.output.len(), graph.output[0].name.as_str()), (1, "logits"));
    assert_eq!(kind(&graph.output[0]), DataType::Float as i32);
}

#[test]
fn what_cannot_be_lowered_is_named() {
    let good = config("pre");
    let configs = [
        (ModelConfig { hidden_act: "relu".into(), ..good.clone() }, "relu"),
        (ModelConfig { num_attention_heads: 3, ..good.clone() }, "3"),
        (ModelConfig { num_attention_heads: 0, ..good.clone() }, "0"),
        (ModelConfig { norm_position: "none".into(), ..good.clone() }, "norm_position = none"),
    ];
    for (config, named) in configs {
        let error = build_fp32(&config, &Made::default()).unwrap_err();
        assert!(matches!(error, ExportError::Config { .. }) && error.to_string().contains(named), "{error}");
    }
    let lacking = Made { lacks: "head.dense.bias", ..Made::default() };
    let error = build_fp32(&good, &lacking).unwrap_err();
    assert!(matches!(&error, ExportError::Tensor { name, .. } if name == "head.dense.bias"), "{error}");
}

#[test]
fn numbers_that_cannot_be_quantised_are_named() {
    let good = config("pre");
    let mut lacking = table();
    lacking.ranges.remove("layer.0.ffn.input");
    let error = build_int8(&good, &Made::default(), &lacking).unwrap_err();
    assert!(matches!(&error, ExportError::Range { name } if name == "layer.0.ffn.input"), "{error}");
    let mut turned = table();
    turned.ranges.insert("head.dense_input".into(), Range { min: 1.0, max: 0.0 });
    let error = build_int8(&good, &Made::default(), &turned).unwrap_err();
    assert!(matches!(&error, ExportError::Quantise { name, .. } if name == "head.dense_input"), "{error}");
    let broken = Made { breaks: "bert.encoder.layer.0.intermediate.dense.weight", ..Made::default() };
    let error = build_int8(&good, &broken, &table()).unwrap_err();
    assert!(
        matches!(&error, ExportError::Quantise { name, .. } if name == "layer.0.ffn.inner.weight"),
        "{error}"
    );
}
