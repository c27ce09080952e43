//! Bundles that are right in every word, around models that are not.

use locus_onnx::{AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto};
use prost::Message as _;
use serde_json::Value;

use super::{Draft, Kind};

const GRAPHS: [&str; 2] = ["fp32.onnx", "int8.onnx"];

/// Both graphs changed alike, so that every engine meets the change.
fn with(shipped: &Draft, change: impl Fn(&mut GraphProto)) -> Vec<u8> {
    rewritten(shipped, |onnx| {
        let mut model = ModelProto::decode(onnx).expect("a shipped graph");
        change(model.graph.as_mut().expect("a graph"));
        model.encode_to_vec()
    })
}

fn rewritten(shipped: &Draft, change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut draft = shipped.clone();
    for name in GRAPHS {
        let part = draft.part(name);
        *part = change(part);
    }
    draft.list();
    draft.bytes()
}

fn golden(shipped: &Draft, change: impl Fn(&mut Vec<Value>)) -> Vec<u8> {
    let mut draft = shipped.clone();
    let part = draft.part("golden.json");
    let mut vectors: Vec<Value> = serde_json::from_slice(part).expect("golden vectors");
    change(&mut vectors);
    *part = serde_json::to_vec(&vectors).expect("values serialise");
    draft.list();
    draft.bytes()
}

fn golden_text(shipped: &Draft, text: &[u8]) -> Vec<u8> {
    let mut draft = shipped.clone();
    *draft.part("golden.json") = text.to_vec();
    draft.list();
    draft.bytes()
}

/// The largest constant of floats: weights.
fn weights(graph: &mut GraphProto) -> &mut TensorProto {
    let floats = graph.initializer.iter_mut().filter(|tensor| tensor.data_type == 1);
    floats.max_by_key(|tensor| tensor.raw_data.len()).expect("a float constant")
}

fn node(graph: &mut GraphProto, operator: &str) {
    graph.node.push(NodeProto {
        op_type: operator.into(),
        name: "evil".into(),
        input: vec!["features".into()],
        output: vec!["evil".into()],
        ..NodeProto::default()
    });
}

/// Constants that QuantizeLinear and DequantizeLinear read as scales, by their names.
fn scales(graph: &GraphProto) -> Vec<String> {
    let nodes = graph.node.iter().filter(|node| node.op_type.ends_with("tizeLinear"));
    nodes.filter_map(|node| node.input.get(1).cloned()).collect()
}

fn external() -> TensorProto {
    let location = StringStringEntryProto { key: "location".into(), value: "../../keys/device.key".into() };
    TensorProto {
        name: "evil".into(),
        data_type: 1,
        dims: vec![1],
        data_location: 1,
        external_data: vec![location],
        ..TensorProto::default()
    }
}

pub(super) fn kinds(shipped: &Draft) -> Vec<Kind> {
    let graph = |name, reason, change: fn(&mut GraphProto)| Kind::new(name, reason, with(shipped, change));
    let operator = |name, operator: &'static str| {
        Kind::new(name, "which no graph of Locus has", with(shipped, |g| node(g, operator)))
    };
    let vectors =
        |name, reason, change: fn(&mut Vec<Value>)| Kind::new(name, reason, golden(shipped, change));
    let differs = "golden vector";
    vec![
        graph("a weight that is no number", "holds numbers that are not finite", |g| {
            weights(g).raw_data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        graph("a weight without end", "holds numbers that are not finite", |g| {
            weights(g).raw_data[4..8].copy_from_slice(&f32::INFINITY.to_le_bytes());
        }),
        graph("a shape of a trillion numbers", "has an impossible shape", |g| {
            weights(g).dims = vec![1 << 20, 1 << 20]
        }),
        graph("a shape beyond all numbers", "has an impossible shape", |g| {
            weights(g).dims = vec![i64::MAX, i64::MAX]
        }),
        graph("a shape below zero", "has an impossible shape", |g| weights(g).dims = vec![-1, -1]),
        graph("a shape that its bytes do not fill", "has another shape than its numbers", |g| {
            weights(g).dims = vec![7, 11]
        }),
        graph("a constant of another type", "has a type that no graph of Locus has", |g| {
            weights(g).data_type = 8
        }),
        graph("weights in another file", "keeps its values in another file", |g| {
            g.initializer.push(external())
        }),
        graph("weights in another file, in a node", "keeps its values in another file", |g| {
            node(g, "Constant");
            let value =
                AttributeProto { name: "value".into(), r#type: 4, t: Some(external()), ..Default::default() };
            let last = g.node.last_mut().expect("just pushed");
            last.input.clear();
            last.attribute.push(value);
        }),
        operator("a constant made of its shape", "ConstantOfShape"),
        operator("a tensor blown up", "Expand"),
        operator("a tensor tiled", "Tile"),
        operator("a range", "Range"),
        operator("a loop", "Loop"),
        operator("a branch", "If"),
        operator("an operator that nobody has", "Reboot"),
        graph("an operator of another domain", "which no graph of Locus has", |g| {
            node(g, "Add");
            g.node.last_mut().expect("just pushed").domain = "com.evil".into();
        }),
        Kind::new(
            "a graph that is no ONNX",
            "not an ONNX model",
            rewritten(shipped, |_| b"#!/bin/sh\nreboot\n".to_vec()),
        ),
        Kind::new("an empty graph", "has no graph", rewritten(shipped, |_| Vec::new())),
        Kind::new(
            "a graph cut in half",
            "not an ONNX model",
            rewritten(shipped, |onnx| onnx[..onnx.len() / 2].to_vec()),
        ),
        Kind::new(
            "fields that nobody reads",
            "has fields that Locus does not write",
            rewritten(shipped, |onnx| [onnx, &[0xca, 1, 1, 0]].concat()),
        ),
        graph("an input missing", "no engine can serve this model here", |g| drop(g.input.pop())),
        graph("a graph with an input more", "no engine can serve this model here", |g| {
            let mut more = g.input[0].clone();
            more.name = "evil".into();
            g.input.push(more);
        }),
        graph("no output", "no engine can serve this model here", |g| g.output.clear()),
        graph("a node that reads nothing there is", "no engine can serve this model here", |g| {
            g.node.last_mut().expect("nodes").input[0] = "evil".into();
        }),
        graph("half of the weights doubled", differs, |g| {
            let part = &mut weights(g).raw_data;
            let half = part.len() / 8 * 4;
            for four in part[..half].chunks_exact_mut(4) {
                let doubled = f32::from_le_bytes([four[0], four[1], four[2], four[3]]) * 2.0;
                four.copy_from_slice(&doubled.to_le_bytes());
            }
        }),
        graph("one byte of a weight changed", differs, |g| {
            // The exponent of the bias that is added last.
            let constants: Vec<String> =
                g.initializer.iter().filter(|t| t.data_type == 1).map(|t| t.name.clone()).collect();
            let last = g.node.iter().rev().flat_map(|node| &node.input).find(|name| constants.contains(name));
            let last = last.expect("a constant that a node reads").clone();
            let tensor = g.initializer.iter_mut().find(|tensor| tensor.name == last).expect("it is there");
            tensor.raw_data[3] ^= 0x43;
        }),
        vectors("golden answers of another model", differs, |vectors| {
            for vector in vectors {
                vector["logits_fp32"][0] = 50.0.into();
                vector["logits_int8"][0] = 50.0.into();
            }
        }),
        vectors("one golden answer wrong", "golden vector 31 differs", |vectors| {
            vectors[31]["logits_fp32"][0] = 7.5.into();
            vectors[31]["logits_int8"][0] = 7.5.into();
        }),
        vectors("a golden vector missing", "golden.json", |vectors| drop(vectors.pop())),
        vectors("a golden vector without tokens", "ref_track has 63 values, expected 0", |vectors| {
            vectors[0]["ref_ids"] = Vec::<i64>::new().into()
        }),
        vectors("a golden token that is none", "failed its self-test on this device", |vectors| {
            vectors[0]["ref_ids"][3] = 1_000_000.into()
        }),
        vectors("a golden token below zero", "failed its self-test on this device", |vectors| {
            vectors[0]["ref_ids"][3] = (-1).into()
        }),
        vectors(
            "a golden vector that is too long",
            "row 0 has 5000 tokens, expected at most 64",
            |vectors| {
                for key in ["ref_ids", "alt_ids", "track"] {
                    vectors[0][key] = vec![5; 5_000].into();
                }
            },
        ),
        vectors("a golden vector of other features", "features has", |vectors| {
            vectors[0]["features"] = vec![0.0].into()
        }),
        vectors("a golden answer of two numbers", "golden", |vectors| {
            vectors[0]["logits_fp32"] = vec![0.0, 0.0].into();
            vectors[0]["logits_int8"] = vec![0.0, 0.0].into();
        }),
        Kind::new("golden vectors that are no JSON", "golden.json", golden_text(shipped, b"trust me")),
        Kind::new("deeply nested golden vectors", "golden.json", golden_text(shipped, &vec![b'['; 1 << 20])),
        Kind::new(
            "features that this program does not compute",
            "has 985 features, this program computes 985",
            {
                let mut draft = shipped.clone();
                draft.manifest["graph"]["features"][0] = "horoscope".into();
                draft.list();
                draft.bytes()
            },
        ),
        Kind::new("swapped scales", differs, {
            let mut draft = shipped.clone();
            let quantised = ModelProto::decode(draft.part("int8.onnx").as_slice()).expect("a shipped graph");
            let mut swapped = quantised;
            let graph = swapped.graph.as_mut().expect("a graph");
            swap_scales(graph);
            // Every engine meets it: the graph in floats is made wrong by as much.
            *draft.part("int8.onnx") = swapped.encode_to_vec();
            let mut floats = ModelProto::decode(draft.part("fp32.onnx").as_slice()).expect("a shipped graph");
            let graph = floats.graph.as_mut().expect("a graph");
            weights(graph).raw_data.chunks_exact_mut(4).for_each(|four| four[3] ^= 0x80);
            *draft.part("fp32.onnx") = floats.encode_to_vec();
            draft.list();
            draft.bytes()
        }),
        Kind::new("a per-channel graph where floats belong", "fp32.onnx: the graph of floats has", {
            let mut draft = shipped.clone();
            *draft.part("fp32.onnx") = draft.part("int8.onnx").clone();
            draft.list();
            draft.bytes()
        }),
    ]
}

/// Exchanges the scales of the weights' columns, so that each is another one's.
fn swap_scales(graph: &mut GraphProto) {
    let names = scales(graph);
    let per_channel =
        graph.initializer.iter_mut().filter(|t| names.contains(&t.name) && t.raw_data.len() > 8);
    for tensor in per_channel {
        let mut fours: Vec<Vec<u8>> = tensor.raw_data.chunks_exact(4).map(<[u8]>::to_vec).collect();
        fours.reverse();
        tensor.raw_data = fours.concat();
    }
}
