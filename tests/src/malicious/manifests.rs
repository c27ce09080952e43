//! Manifests that are rightly signed and promise what cannot be.

use serde_json::{Value, json};

use super::{Draft, FLOOR, Kind, archive};

fn with(small: &Draft, change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut draft = small.clone();
    change(&mut draft.manifest);
    draft.bytes()
}

fn set(small: &Draft, pointer: &str, value: Value) -> Vec<u8> {
    with(small, |manifest| *manifest.pointer_mut(pointer).expect("a field of the manifest") = value.clone())
}

/// The bundle with a manifest of these bytes, rightly signed.
fn raw(small: &Draft, manifest: Vec<u8>) -> Vec<u8> {
    archive(&small.entries_around(manifest))
}

/// The bundle with another content of a part, rightly listed and signed.
fn part(small: &Draft, name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut draft = small.clone();
    *draft.part(name) = bytes.to_vec();
    draft.list();
    draft.bytes()
}

/// `text` with other words.
///
/// # Panics
/// When it does not hold them: a kind that changes nothing would be tested as the sound bundle.
fn replaced(text: &str, from: &str, to: &str) -> Vec<u8> {
    assert!(text.contains(from), "{from} is not in {text}");
    text.replace(from, to).into_bytes()
}

pub(super) fn kinds(small: &Draft) -> Vec<Kind> {
    let text = serde_json::to_string_pretty(&small.manifest).expect("a value serialises");
    let kind =
        |name, reason, pointer: &str, value: Value| Kind::new(name, reason, set(small, pointer, value));
    let bad = "manifest.json is not valid";
    let probability = "the manifest's probability";
    vec![
        Kind::new("a manifest that is no JSON", bad, raw(small, b"{".to_vec())),
        Kind::new("a deeply nested manifest", bad, raw(small, vec![b'['; 200_000])),
        Kind::new(
            "a manifest with a word twice",
            bad,
            raw(small, text.replacen('{', "{\"format\": 1,", 1).into_bytes()),
        ),
        Kind::new(
            "a manifest with an unknown word",
            bad,
            raw(small, text.replacen('{', "{\"run\": \"sh\",", 1).into_bytes()),
        ),
        Kind::new("a manifest with something behind it", bad, raw(small, format!("{text}{{}}").into_bytes())),
        Kind::new("a manifest that is no UTF-8", bad, raw(small, replaced(&text, "malicious", "\0"))),
        Kind::new(
            "a number that is none",
            bad,
            raw(small, replaced(&text, "\"budget\": 0.002,", "\"budget\": NaN,")),
        ),
        Kind::new(
            "a number without end",
            bad,
            raw(small, replaced(&text, "\"budget\": 0.002,", "\"budget\": 1e999,")),
        ),
        kind("another format", bad, "/format", 2.into()),
        kind("a counter below zero", bad, "/security_counter", (-1).into()),
        kind(
            "a rollback",
            "security counter is 4, this box takes 5",
            "/security_counter",
            (FLOOR - 1).into(),
        ),
        kind("a name with a path", bad, "/name", "../../etc".into()),
        kind("a model without a name", bad, "/name", "".into()),
        kind("a version that is none", bad, "/version", "latest".into()),
        kind("a newer box wanted", "needs version 99.0.0", "/min_edge_version", "99.0.0".into()),
        kind("another task", bad, "/task", "remote_control".into()),
        kind(
            "a label that would be answered inverted",
            "the manifest's labels",
            "/labels",
            json!(["benign"]),
        ),
        kind("two labels", "the manifest's labels", "/labels", json!(["pathogenic", "benign"])),
        kind("no label", "the manifest's labels", "/labels", json!([])),
        kind("no bucket", "the manifest's graph.buckets", "/graph/buckets", json!([])),
        kind("a bucket of zero", "the manifest's graph.buckets", "/graph/buckets", json!([0, 64])),
        kind(
            "a bucket beyond the training",
            "the manifest's graph.max_tokens",
            "/graph/buckets",
            json!([32, 65]),
        ),
        kind(
            "rows of a million tokens",
            "the manifest's graph.max_tokens",
            "/graph/max_tokens",
            1_000_000.into(),
        ),
        kind("batches of no row", "the manifest's graph.max_batch", "/graph/max_batch", 0.into()),
        kind(
            "batches of four billion rows",
            "the manifest's graph.max_batch",
            "/graph/max_batch",
            u32::MAX.into(),
        ),
        kind(
            "an input that nobody feeds",
            "the manifest's graph.inputs",
            "/graph/inputs/0/name",
            "ids".into(),
        ),
        kind(
            "an input of another type",
            "the manifest's graph.inputs",
            "/graph/inputs/6/dtype",
            "float64".into(),
        ),
        kind(
            "an output of another width",
            "the manifest's graph.outputs",
            "/graph/outputs/0/shape/1",
            "2".into(),
        ),
        kind("a missing feature", "the manifest's graph.inputs", "/graph/features", json!(["one"])),
        kind("seven golden vectors", "the manifest's golden.count", "/golden/count", 7.into()),
        kind("a million golden vectors", "the manifest's golden.count", "/golden/count", 1_000_000.into()),
        kind("a tolerance of zero", "golden.tolerance_fp32", "/golden/tolerance_fp32", 0.0.into()),
        kind("a tolerance that all passes", "golden.tolerance_fp32", "/golden/tolerance_fp32", 1.0.into()),
        kind("the same in INT8", "golden.tolerance_int8", "/golden/tolerance_int8", 10.0.into()),
        kind("a temperature of zero", probability, "/probability/modes/transcript/temperature", 0.0.into()),
        kind(
            "a temperature below zero",
            probability,
            "/probability/modes/transcript/temperature",
            (-1.0).into(),
        ),
        kind("a prior of one", probability, "/probability/modes/transcript/prior", 1.0.into()),
        kind("bands that cross", probability, "/probability/modes/transcript/benign_below", 0.9.into()),
        kind(
            "missense bands that cross",
            probability,
            "/probability/modes/transcript/missense/benign_below",
            1.0.into(),
        ),
        kind(
            "more right answers than answers",
            probability,
            "/probability/modes/transcript/answered_accuracy",
            1.5.into(),
        ),
        kind(
            "another tokenizer's fingerprint",
            "tokenizer.json has fingerprint",
            "/tokenizer/fingerprint",
            "ab".repeat(32).into(),
        ),
        kind("another k", "tokenizer.json has k 3", "/tokenizer/kmer", 4.into()),
        kind("another stride", "tokenizer.json has stride 1", "/tokenizer/stride", 3.into()),
        kind("another vocabulary", "a vocabulary of 69", "/tokenizer/vocab_size", 70.into()),
        kind(
            "a window longer than a row",
            "the manifest's tokenizer.window_kmers",
            "/tokenizer/window_kmers",
            u32::MAX.into(),
        ),
        kind(
            "INT8 outside the accuracy budget",
            "outside its own accuracy contract: INT8 loses",
            "/contract/int8/auroc",
            0.5.into(),
        ),
        kind(
            "no accuracy measured",
            "outside its own accuracy contract: the accuracy contract lacks",
            "/contract/int8",
            json!({}),
        ),
        Kind::new(
            "too many decisions changed",
            "outside its own accuracy contract: INT8 decides",
            with(small, |m| {
                m["contract"]["flips"] = 0.2.into();
                m["contract"]["flips_budget"] = 0.01.into();
            }),
        ),
        Kind::new("a part listed twice", bad, with(small, |m| m["parts"][1] = m["parts"][0].clone())),
        kind(
            "a part that nobody knows",
            "a part that format 1 does not know",
            "/parts/1/name",
            "run.sh".into(),
        ),
        kind("a path for a part", bad, "/parts/1/name", "../config.json".into()),
        kind("the manifest as its own part", bad, "/parts/1/name", "manifest.json".into()),
        Kind::new(
            "no graph",
            "does not list fp32.onnx",
            with(small, |m| m["parts"].as_array_mut().expect("parts").retain(|p| p["name"] != "fp32.onnx")),
        ),
        kind("a part of four terabytes", "part int8.onnx has", "/parts/5/size", (4_u64 << 40).into()),
        kind(
            "a text of four gigabytes",
            "larger than a text part may be",
            "/parts/1/size",
            (4_u64 << 30).into(),
        ),
        kind(
            "a part of one byte less",
            "part tokenizer.json has 478 bytes, expected 477",
            "/parts/0/size",
            477.into(),
        ),
        kind("a digest of zeros", "part config.json has SHA-256", "/parts/1/sha256", "0".repeat(64).into()),
        kind("a digest in capitals", bad, "/parts/1/sha256", "AB".repeat(32).into()),
        Kind::new(
            "a tokenizer that is no JSON",
            "tokenizer.json has",
            part(small, "tokenizer.json", b"AAA AAC"),
        ),
        Kind::new("a tokenizer of another vocabulary", "tokenizer.json has", {
            let text = String::from_utf8(small.clone().part("tokenizer.json").clone()).expect("text");
            part(small, "tokenizer.json", &replaced(&text, "\"AAA\",\"AAC\"", "\"AAC\",\"AAA\""))
        }),
        Kind::new("an empty tokenizer", "tokenizer.json has", part(small, "tokenizer.json", b"")),
    ]
}
