//! What is wrong with a bundle that leaves out parts.

use serde_json::json;

use super::{Draft, Kind, archive, header, push};

type Entries = Vec<(String, Vec<u8>)>;

/// The small bundle without the parts that the box has: all but its graphs. Right, but for what `change` does.
fn delta(small: &Draft, change: impl Fn(&mut Entries)) -> Vec<u8> {
    let head = json!({"format": 1, "from": "0".repeat(64)}).to_string().into_bytes();
    let mut entries = vec![("delta.json".to_owned(), head)];
    let needed = |name: &str| ["manifest.json", "signatures.json"].contains(&name) || name.ends_with(".onnx");
    entries.extend(small.entries().into_iter().filter(|(name, _)| needed(name)));
    change(&mut entries);
    archive(&entries)
}

fn at(entries: &Entries, name: &str) -> usize {
    entries.iter().position(|(entry, _)| entry == name).expect("an entry of the delta")
}

fn headed(small: &Draft, head: &[u8]) -> Vec<u8> {
    delta(small, |entries| entries[0].1 = head.to_vec())
}

pub(super) fn kinds(small: &Draft) -> Vec<Kind> {
    let with = |change: &dyn Fn(&mut Draft)| {
        let mut draft = small.clone();
        change(&mut draft);
        delta(&draft, |_| {})
    };
    let behind = {
        let mut bytes = delta(small, |_| {});
        let extra = vec![1; 512];
        push(&mut bytes, &header(b"x", 512), &extra);
        bytes
    };
    let (nowhere, head) = ("no bundle in the slots has it", "delta.json cannot be used");
    vec![
        Kind::new(
            "delta without a part that the box lacks",
            nowhere,
            delta(small, |entries| {
                entries.remove(at(entries, "fp32.onnx"));
            }),
        ),
        Kind::new(
            "delta with its parts out of order",
            nowhere,
            delta(small, |entries| {
                let (a, b) = (at(entries, "fp32.onnx"), at(entries, "int8.onnx"));
                entries.swap(a, b);
            }),
        ),
        Kind::new(
            "delta with a part twice",
            nowhere,
            delta(small, |entries| {
                let twice = entries[at(entries, "fp32.onnx")].clone();
                entries.insert(at(entries, "fp32.onnx"), twice);
            }),
        ),
        Kind::new(
            "delta with an altered part",
            "part fp32.onnx has SHA-256",
            delta(small, |entries| {
                let place = at(entries, "fp32.onnx");
                entries[place].1[0] ^= 1;
            }),
        ),
        Kind::new(
            "delta of an altered manifest",
            "does not fit this manifest",
            delta(small, |entries| {
                let place = at(entries, "manifest.json");
                entries[place].1.push(b' ');
            }),
        ),
        Kind::new("delta that is unsigned", "the bundle is unsigned", with(&|draft| draft.signers.clear())),
        Kind::new(
            "delta signed by one of two",
            "signed by 1 trusted keys, expected 2",
            with(&|draft| draft.signers.truncate(1)),
        ),
        Kind::new(
            "delta below the floor",
            "security counter is 4, this box takes 5",
            with(&|draft| {
                draft.manifest["security_counter"] = 4.into();
            }),
        ),
        Kind::new(
            "delta with a part of the box under another size",
            "part tokenizer.json has ",
            with(&|draft| {
                let size = draft.manifest["parts"][0]["size"].as_u64().expect("a size");
                draft.manifest["parts"][0]["size"] = (size + 1).into();
            }),
        ),
        Kind::new(
            "delta of another model with this one's parts",
            nowhere,
            with(&|draft| {
                draft.manifest["parts"][0]["sha256"] = "0".repeat(64).into();
            }),
        ),
        Kind::new("delta with a head that is no JSON", head, headed(small, b"{")),
        Kind::new(
            "delta with a head of another format",
            "format 9, expected 1",
            headed(small, br#"{"format":9,"from":""}"#),
        ),
        Kind::new(
            "delta with an unknown key in its head",
            head,
            headed(small, br#"{"format":1,"from":"","run":"x"}"#),
        ),
        Kind::new(
            "delta with a head that is too long",
            "part delta.json says 2000 bytes",
            headed(small, &[b' '; 2_000]),
        ),
        Kind::new(
            "delta in a delta",
            "archive entry 1 is delta.json, expected manifest.json",
            delta(small, |entries| {
                let head = entries[0].clone();
                entries.insert(0, head);
            }),
        ),
        Kind::new(
            "delta with an entry too many",
            "expected the end of the archive",
            delta(small, |entries| {
                entries.push(("extra.json".into(), b"{}".to_vec()));
            }),
        ),
        Kind::new("delta with bytes behind its end", "bytes follow the end of the archive", behind),
    ]
}
