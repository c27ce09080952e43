//! Tiny graphs and bundles for the tests of this crate.

use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use locus_firmware_config::manifest::{key_id, signing_message};
use locus_firmware_config::profile::DeviceProfile;
use locus_genome::{EncodedVariant, KmerTokenizer, feature_names};
use locus_onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};
use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::graphs::{Graphs, TOKEN_INPUTS};

pub(crate) const FLOAT: i32 = 1;
pub(crate) const INT8: i32 = 3;
pub(crate) const INT64: i32 = 7;

const VOCAB: usize = 69;
const WIDTH: usize = 8;
const HIDDEN: usize = 16;
pub(crate) const BUCKETS: [u32; 2] = [32, 64];
pub(crate) const MAX_BATCH: u32 = 8;
/// Activation scale of the INT8 graph: its input reaches ±12.7.
pub(crate) const SCALE: f32 = 0.1;

/// The library to test with, or `None` after saying that the test is skipped.
pub(crate) fn onnxruntime() -> Option<PathBuf> {
    crate::ort::library_path(None).map_err(|reason| println!("skipped: {reason}")).ok()
}

pub(crate) fn profile() -> DeviceProfile {
    DeviceProfile::named("base").unwrap()
}

/// A seeded stream of numbers in [-1, 1): xorshift64*, so that graphs are the same everywhere.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn next(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// Collects nodes and constants of a graph.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) graph: GraphProto,
}

impl Draft {
    pub(crate) fn node(&mut self, op_type: &str, input: &[&str], output: &str) -> &mut NodeProto {
        self.graph.node.push(NodeProto {
            op_type: op_type.into(),
            name: output.into(),
            input: input.iter().map(|name| (*name).into()).collect(),
            output: vec![output.into()],
            ..NodeProto::default()
        });
        self.graph.node.last_mut().unwrap()
    }

    pub(crate) fn constant(&mut self, name: &str, data_type: i32, dims: &[i64], raw_data: Vec<u8>) {
        let name = name.into();
        self.graph.initializer.push(TensorProto {
            name,
            data_type,
            dims: dims.to_vec(),
            raw_data,
            ..Default::default()
        });
    }

    pub(crate) fn floats(&mut self, name: &str, dims: &[i64], values: &[f32]) {
        self.constant(name, FLOAT, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }

    pub(crate) fn finish(mut self, inputs: Vec<ValueInfoProto>, outputs: Vec<ValueInfoProto>) -> Vec<u8> {
        self.graph.name = "test".into();
        self.graph.input = inputs;
        self.graph.output = outputs;
        let model = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
            graph: Some(self.graph),
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }

    /// y = x W, x and W through Q/DQ when there is a scale: per-tensor signed activations, per-channel weights.
    fn linear(&mut self, name: &str, x: &str, weight: &[f32], columns: usize, x_scale: Option<f32>) {
        let rows = (weight.len() / columns) as i64;
        let (w, y) = (format!("{name}.w"), format!("{name}.y"));
        let Some(x_scale) = x_scale else {
            self.floats(&w, &[rows, columns as i64], weight);
            self.node("MatMul", &[x, &w], &y);
            return;
        };
        let scales: Vec<f32> = (0..columns)
            .map(|column| {
                weight.iter().skip(column).step_by(columns).fold(1e-6_f32, |m, v| m.max(v.abs())) / 127.0
            })
            .collect();
        let codes: Vec<u8> = weight
            .iter()
            .enumerate()
            .map(|(at, value)| ((value / scales[at % columns]).round() as i8).cast_unsigned())
            .collect();
        let part = |suffix: &str| format!("{name}.{suffix}");
        self.constant(&part("w8"), INT8, &[rows, columns as i64], codes);
        self.floats(&part("w_scale"), &[columns as i64], &scales);
        self.constant(&part("w_zero"), INT8, &[columns as i64], vec![0; columns]);
        self.floats(&part("x_scale"), &[], &[x_scale]);
        self.constant(&part("x_zero"), INT8, &[], vec![0]);
        let dequantise = self.node("DequantizeLinear", &[&part("w8"), &part("w_scale"), &part("w_zero")], &w);
        dequantise.attribute.push(int_attribute("axis", 1));
        self.node("QuantizeLinear", &[x, &part("x_scale"), &part("x_zero")], &part("x8"));
        self.node("DequantizeLinear", &[&part("x8"), &part("x_scale"), &part("x_zero")], &part("x"));
        self.node("MatMul", &[&part("x"), &w], &y);
    }
}

pub(crate) fn int_attribute(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, r#type: 2, ..AttributeProto::default() }
}

pub(crate) fn value_info(name: &str, elem_type: i32, dims: &[&str]) -> ValueInfoProto {
    use tensor_shape_proto::dimension::Value;
    let dim = |text: &&str| tensor_shape_proto::Dimension {
        value: Some(text.parse().map_or_else(|_| Value::DimParam((*text).into()), Value::DimValue)),
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type, shape: Some(shape) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)) };
    ValueInfoProto { name: name.into(), r#type: Some(kind), ..Default::default() }
}

/// A pair model in miniature: every input of the contract changes its logit, padding does not.
pub(crate) fn pair_model(seed: u64, quantised: bool) -> Vec<u8> {
    pair_model_with_output(seed, quantised, None)
}

/// As [`pair_model`]; `poison` is added to the logit (a NaN, for example).
pub(crate) fn pair_model_with_output(seed: u64, quantised: bool, poison: Option<f32>) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    let mut draft = Draft::default();
    let n = feature_names().len();
    draft.floats("words", &[VOCAB as i64, WIDTH as i64], &numbers.take(VOCAB * WIDTH));
    draft.floats("tracks", &[9, WIDTH as i64], &numbers.take(9 * WIDTH));
    draft.constant("axis1", INT64, &[1], 1_i64.to_le_bytes().to_vec());
    draft.constant("axis2", INT64, &[1], 2_i64.to_le_bytes().to_vec());
    for side in ["ref", "alt"] {
        let name = |suffix: &str| format!("{side}_{suffix}");
        draft.node("Gather", &["words", &name("ids")], &name("w"));
        draft.node("Gather", &["tracks", &name("track")], &name("t"));
        draft.node("Add", &[&name("w"), &name("t")], &name("x"));
        draft
            .node("Cast", &[&name("mask")], &name("m2"))
            .attribute
            .push(int_attribute("to", i64::from(FLOAT)));
        draft.node("Unsqueeze", &[&name("m2"), "axis2"], &name("m3"));
        draft.node("Mul", &[&name("x"), &name("m3")], &name("masked"));
        draft
            .node("ReduceSum", &[&name("masked"), "axis1"], &name("sum"))
            .attribute
            .push(int_attribute("keepdims", 0));
        draft.node("ReduceSum", &[&name("m2"), "axis1"], &name("n"));
        draft.node("Div", &[&name("sum"), &name("n")], &name("mean"));
    }
    draft.node("Sub", &["alt_sum", "ref_sum"], "difference");
    draft
        .node("Concat", &["difference", "alt_mean", "features"], "joined")
        .attribute
        .push(int_attribute("axis", 1));
    let dense: Vec<f32> = numbers.take((2 * WIDTH + n) * HIDDEN).iter().map(|weight| weight / 8.0).collect();
    draft.linear("dense", "joined", &dense, HIDDEN, quantised.then_some(SCALE));
    draft.floats("dense.b", &[HIDDEN as i64], &numbers.take(HIDDEN));
    draft.node("Add", &["dense.y", "dense.b"], "hidden");
    draft.node("Tanh", &["hidden"], "activated");
    draft.linear("out", "activated", &numbers.take(HIDDEN), 1, quantised.then_some(1.0 / 127.0));
    draft.floats("out.b", &[1], &[poison.unwrap_or(0.25)]);
    draft.node("Add", &["out.y", "out.b"], "logits");
    let mut inputs: Vec<_> =
        TOKEN_INPUTS.iter().map(|name| value_info(name, INT64, &["batch", "tokens"])).collect();
    inputs.push(value_info("features", FLOAT, &["batch", &n.to_string()]));
    draft.finish(inputs, vec![value_info("logits", FLOAT, &["batch", "1"])])
}

pub(crate) fn graphs(seed: u64) -> Graphs {
    let n = feature_names().len() as u32;
    Graphs::from_onnx(Some(pair_model(seed, false)), Some(pair_model(seed, true)), &BUCKETS, MAX_BATCH, 1, n)
}

/// One unpadded row, owned.
pub(crate) struct OwnedRow {
    pub(crate) ref_ids: Vec<i64>,
    pub(crate) alt_ids: Vec<i64>,
    pub(crate) track: Vec<i64>,
    pub(crate) features: Vec<f32>,
}

impl OwnedRow {
    pub(crate) fn new(numbers: &mut Numbers, tokens: usize, feature_size: f32) -> Self {
        let mut below = |limit: u64| (numbers.next_u64() >> 33) % limit;
        let ref_ids: Vec<i64> = (0..tokens).map(|_| 5 + below(64) as i64).collect();
        let mut alt_ids = ref_ids.clone();
        alt_ids[tokens / 2] = 5 + below(64) as i64;
        let track = (0..tokens).map(|_| below(9) as i64).collect();
        let features = numbers.take(feature_names().len()).iter().map(|value| value * feature_size).collect();
        Self { ref_ids, alt_ids, track, features }
    }

    pub(crate) fn row(&self) -> crate::Row<'_> {
        crate::Row {
            ref_ids: &self.ref_ids,
            alt_ids: &self.alt_ids,
            ref_track: &self.track,
            alt_track: &self.track,
            features: &self.features,
        }
    }
}

/// A bundle in pieces, to be put together rightly or wrongly.
pub(crate) struct BundleDraft {
    pub(crate) manifest: Value,
    pub(crate) parts: Vec<(String, Vec<u8>)>,
    pub(crate) keys: Vec<SigningKey>,
}

impl BundleDraft {
    /// A good bundle around a tiny model; its golden vectors are missing until set.
    pub(crate) fn new(seed: u64) -> Self {
        let tokenizer = KmerTokenizer::new(3, 1).unwrap();
        let parts: Vec<(String, Vec<u8>)> = vec![
            ("tokenizer.json".into(), tokenizer.to_json().into_bytes()),
            ("config.json".into(), b"{}".to_vec()),
            ("golden.json".into(), b"[]".to_vec()),
            ("fp32.onnx".into(), pair_model(seed, false)),
            ("int8.onnx".into(), pair_model(seed, true)),
        ];
        Self { manifest: manifest(&tokenizer), parts, keys: Vec::new() }
    }

    /// Writes golden vectors; INT8 shares the FP32 logits with a tolerance of its quantisation noise.
    pub(crate) fn set_golden(&mut self, variants: &[EncodedVariant], logits: &[Vec<f32>]) {
        let vectors: Vec<Value> = variants
            .iter()
            .zip(logits)
            .map(|(v, logits)| {
                json!({
                    "ref_ids": v.ref_ids, "alt_ids": v.alt_ids, "track": v.track, "features": v.features,
                    "logits_fp32": logits, "logits_int8": logits,
                })
            })
            .collect();
        self.manifest["golden"]["count"] = vectors.len().into();
        *self.part_mut("golden.json") = serde_json::to_vec(&vectors).unwrap();
    }

    pub(crate) fn part_mut(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.parts.iter_mut().find(|(part, _)| part == name).unwrap().1
    }

    /// Writes sizes and digests of the parts into the manifest.
    pub(crate) fn list_parts(&mut self) {
        let list: Vec<Value> = self
            .parts
            .iter()
            .map(|(name, bytes)| json!({"name": name, "size": bytes.len(), "sha256": hex::encode(Sha256::digest(bytes))}))
            .collect();
        self.manifest["parts"] = list.into();
    }

    pub(crate) fn manifest_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(&self.manifest).unwrap()
    }

    /// Entries of the archive in order, signatures included when there are keys.
    pub(crate) fn entries(&self) -> Vec<(String, Vec<u8>)> {
        let manifest = self.manifest_bytes();
        let digest: [u8; 32] = Sha256::digest(&manifest).into();
        let mut entries = vec![("manifest.json".to_owned(), manifest)];
        if !self.keys.is_empty() {
            let keys: Vec<&SigningKey> = self.keys.iter().collect();
            entries.push(("signatures.json".into(), signatures(&keys, &digest)));
        }
        entries.extend(self.parts.iter().cloned());
        entries
    }

    pub(crate) fn bytes(&mut self) -> Vec<u8> {
        self.list_parts();
        archive(&self.entries())
    }
}

pub(crate) fn signatures(keys: &[&SigningKey], digest: &[u8; 32]) -> Vec<u8> {
    use ed25519_dalek::Signer;
    let entries: Vec<_> = keys
        .iter()
        .map(|key| {
            let id = key_id(key.verifying_key().as_bytes());
            let signature = hex::encode(key.sign(&signing_message(digest)).to_bytes());
            json!({"key_id": id, "algorithm": "ed25519", "signature": signature})
        })
        .collect();
    serde_json::to_vec(&json!({ "signatures": entries })).unwrap()
}

/// A ustar header for a regular file.
pub(crate) fn header(name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    header
}

pub(crate) fn archive(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in entries {
        push_entry(&mut bytes, &header(name, content.len() as u64), content);
    }
    close(bytes)
}

pub(crate) fn push_entry(archive: &mut Vec<u8>, header: &tar::Header, content: &[u8]) {
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

pub(crate) fn close(mut archive: Vec<u8>) -> Vec<u8> {
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn manifest(tokenizer: &KmerTokenizer) -> Value {
    let tensor =
        |name: &str, dtype: &str, last: &str| json!({"name": name, "dtype": dtype, "shape": ["batch", last]});
    let mut inputs: Vec<Value> = TOKEN_INPUTS.iter().map(|name| tensor(name, "int64", "tokens")).collect();
    inputs.push(tensor("features", "float32", &feature_names().len().to_string()));
    let calibration = |accuracy: f64| {
        json!({
            "temperature": 1.5, "offset": 0.1, "prior": 0.4, "benign_below": 0.2, "pathogenic_above": 0.8,
            "answered_accuracy": accuracy, "answered_share": 0.8, "lr_pathogenic": 12.0, "lr_benign": 0.08,
        })
    };
    json!({
        "format": 1,
        "name": "tiny",
        "version": "1.2.3",
        "security_counter": 1,
        "min_edge_version": "0.1.0",
        "task": "variant_effect",
        "labels": ["pathogenic"],
        "scope": {
            "kinds": ["snv"], "min_bases": 3, "max_bases": 63, "modes": ["transcript", "sequence_only"],
            "consequences": null, "assembly": "GRCh38",
        },
        "graph": {
            "inputs": inputs, "outputs": [tensor("logits", "float32", "1")], "features": feature_names(),
            "buckets": BUCKETS, "max_tokens": 64, "max_batch": MAX_BATCH,
        },
        "tokenizer": {
            "kmer": tokenizer.k(), "stride": tokenizer.stride(), "vocab_size": tokenizer.vocab_size(),
            "window_kmers": 61, "fingerprint": tokenizer.fingerprint(),
        },
        "probability": {"modes": {"transcript": calibration(0.95), "sequence_only": calibration(0.7)}},
        "contract": {
            "data": "validation", "metric": "auroc", "fp32": {"auroc": 0.95}, "int8": {"auroc": 0.949},
            "difference": {"auroc": -0.001}, "budget": 0.005,
        },
        "golden": {"part": "golden.json", "count": 8, "tolerance_fp32": 1e-4, "tolerance_int8": 0.25},
        "provenance": {
            "data": {}, "recipe_sha256": "0".repeat(64), "seed": 7, "source": null, "created": "2026-11-24",
        },
        "parts": [],
    })
}
