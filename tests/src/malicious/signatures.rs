//! Who signed, and what.

use locus_firmware_config::{manifest::signing_message, trust::SIGNING_CONTEXT};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Draft, Kind, REVOKED, ROOT, STRANGER, archive, id, signature, signatures_json};

/// The order of the group that Ed25519 computes in (RFC 8032, section 5.1), little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

const ALTERED: &str = "does not fit this manifest; the bundle was altered";

/// The bundle with another `signatures.json`.
fn with(draft: &Draft, file: &[u8]) -> Vec<u8> {
    let mut entries = draft.entries();
    entries[1].1 = file.to_vec();
    archive(&entries)
}

/// The bundle with its first signature changed, or another one put there.
fn with_first(draft: &Draft, change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut file: Value = serde_json::from_slice(&draft.entries()[1].1).expect("signatures");
    change(&mut file["signatures"][0]);
    with(draft, file.to_string().as_bytes())
}

fn signed_by(draft: &Draft, signers: &[u8]) -> Vec<u8> {
    Draft { signers: signers.to_vec(), ..draft.clone() }.bytes()
}

/// The same signature with the group's order added to its second half.
fn malleable(text: &str) -> String {
    let mut bytes = hex::decode(text).expect("hex");
    let mut carry = 0;
    for (byte, order) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    hex::encode(bytes)
}

pub(super) fn kinds(small: &Draft) -> Vec<Kind> {
    let entries = small.entries();
    let digest: [u8; 32] = Sha256::digest(&entries[0].1).into();
    let over = |message: &[u8]| signatures_json(vec![signature(1, message), signature(2, message)]);
    let other = {
        let mut other = small.clone();
        other.manifest["version"] = "9.9.9".into();
        other
    };
    let late = {
        let mut entries = entries.clone();
        let signatures = entries.remove(1);
        entries.push(signatures);
        archive(&entries)
    };
    let twice = {
        let mut entries = entries.clone();
        entries.insert(2, entries[1].clone());
        archive(&entries)
    };
    let mixed = {
        let mut entries = other.entries();
        entries.truncate(2);
        let last = entries.len();
        let mut theirs = small.clone();
        theirs.part("golden.json").push(b' ');
        entries.extend(theirs.entries().into_iter().skip(last));
        archive(&entries)
    };
    let changed = {
        let mut entries = entries.clone();
        entries[0].1.push(b' ');
        archive(&entries)
    };
    let text = |draft: &Draft| draft.entries()[1].1.clone();
    let first = |key: &'static str, value: Value| with_first(small, move |one| one[key] = value.clone());
    let seventeen =
        signatures_json((1..=17).map(|seed| signature(seed, &signing_message(&digest))).collect());
    let key_twice = signatures_json([1, 1].map(|seed| signature(seed, &signing_message(&digest))).to_vec());
    let renamed = {
        let mut theirs =
            [signature(STRANGER, &signing_message(&digest)), signature(2, &signing_message(&digest))];
        theirs[0].key_id = id(1);
        signatures_json(theirs.to_vec())
    };
    vec![
        Kind::new("no signature", "the bundle is unsigned, expected a signature", signed_by(small, &[])),
        Kind::new("one signature of two", "signed by 1 trusted keys, expected 2", signed_by(small, &[1])),
        Kind::new("a stranger's signatures", "expected one of", signed_by(small, &[STRANGER, 10])),
        Kind::new(
            "a stranger beside one key",
            "signed by 1 trusted keys, expected 2",
            signed_by(small, &[1, STRANGER]),
        ),
        Kind::new(
            "a revoked key beside one key",
            "which is revoked, and by 1 trusted keys",
            signed_by(small, &[1, REVOKED]),
        ),
        Kind::new(
            "the revoked key alone",
            "which is revoked, and by 0 trusted keys",
            signed_by(small, &[REVOKED]),
        ),
        Kind::new(
            "the root beside one key",
            "signed by 1 trusted keys, expected 2",
            signed_by(small, &[1, ROOT]),
        ),
        Kind::new("the root alone", "expected one of", signed_by(small, &[ROOT])),
        Kind::new("a stranger's signature under a trusted name", ALTERED, with(small, &renamed)),
        Kind::new("the signatures of another bundle", ALTERED, with(small, &text(&other))),
        Kind::new("signatures over the bare digest", ALTERED, with(small, &over(&digest))),
        Kind::new(
            "signatures as of a trust document",
            ALTERED,
            with(small, &over(&[SIGNING_CONTEXT, &digest].concat())),
        ),
        Kind::new("signatures over the manifest itself", ALTERED, with(small, &over(&entries[0].1))),
        Kind::new("a manifest changed after it was signed", ALTERED, changed),
        Kind::new("parts of another bundle", "part golden.json", mixed),
        Kind::new(
            "a signature in a second form",
            ALTERED,
            with_first(small, |one| {
                one["signature"] = malleable(one["signature"].as_str().unwrap_or_default()).into();
            }),
        ),
        Kind::new("a signature of zeros", ALTERED, first("signature", "0".repeat(128).into())),
        Kind::new("a signature of ones", ALTERED, first("signature", "f".repeat(128).into())),
        Kind::new(
            "an empty list of signatures",
            "0 signatures, expected 1 to 16",
            with(small, b"{\"signatures\": []}"),
        ),
        Kind::new("seventeen signatures", "17 signatures, expected 1 to 16", with(small, &seventeen)),
        Kind::new("one key's signature twice", "two signatures by key", with(small, &key_twice)),
        Kind::new("another algorithm", "an algorithm other than ed25519", first("algorithm", "rsa".into())),
        Kind::new(
            "an upper-case key id",
            "a key_id that is not 16",
            first("key_id", id(1).to_uppercase().into()),
        ),
        Kind::new(
            "a path for a key id",
            "a key_id that is not 16",
            first("key_id", "../../keys/a.pub".into()),
        ),
        Kind::new("a short signature", "not 128 hexadecimal digits", first("signature", "00".into())),
        Kind::new(
            "a signature that is a number",
            "signatures.json is not valid",
            first("signature", 7.into()),
        ),
        Kind::new(
            "an unknown word beside a signature",
            "signatures.json is not valid",
            first("trusted", json!(true)),
        ),
        Kind::new("signatures that are no JSON", "signatures.json is not valid", with(small, b"yes")),
        Kind::new(
            "nested brackets for signatures",
            "signatures.json is not valid",
            with(small, &vec![b'['; 60_000]),
        ),
        Kind::new(
            "signatures of 100 KiB",
            "part signatures.json says 102400 bytes",
            with(small, &vec![b' '; 100 << 10]),
        ),
        Kind::new("signatures behind the parts", "the bundle is unsigned", late),
        Kind::new("signatures twice", "is signatures.json, expected tokenizer.json", twice),
    ]
}
