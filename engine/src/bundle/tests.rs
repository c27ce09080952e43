//! One honest bundle, and a table of dishonest ones.

use ed25519_dalek::SigningKey;

use super::*;
use crate::testing::{BundleDraft, archive, close, header, push_entry, signatures};

type Refusal = fn(&BundleError) -> bool;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn trusted(seed: u8) -> TrustedKey {
    TrustedKey::from_bytes(key(seed).verifying_key().as_bytes()).unwrap()
}

fn read(bytes: &[u8], trust: &Trust) -> Result<Bundle, BundleError> {
    Bundle::read(bytes, bytes.len() as u64, trust, &Limits::default())
}

fn draft() -> BundleDraft {
    let mut draft = BundleDraft::new(1);
    draft.list_parts();
    draft
}

/// A bundle whose manifest was changed before it was sealed: everything else about it is right.
fn with_manifest(change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let mut draft = draft();
    change(&mut draft.manifest);
    archive(&draft.entries())
}

/// A bundle whose list of archive entries was changed after the manifest was made.
fn with_entries(change: impl Fn(&mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
    let mut entries = draft().entries();
    change(&mut entries);
    archive(&entries)
}

/// A bundle in which the header of entry 1 was changed.
fn with_header(change: impl Fn(&mut tar::Header)) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, (name, content)) in draft().entries().into_iter().enumerate() {
        let mut header = header(&name, content.len() as u64);
        if at == 1 {
            change(&mut header);
            header.set_cksum();
        }
        push_entry(&mut bytes, &header, &content);
    }
    close(bytes)
}

fn renamed(name: &'static str) -> Vec<u8> {
    with_header(|header| {
        header.as_mut_bytes()[..100].fill(0);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    })
}

fn typed(kind: tar::EntryType) -> Vec<u8> {
    with_header(|header| header.set_entry_type(kind))
}

#[test]
fn an_honest_bundle_opens_and_says_what_it_holds() {
    let mut draft = BundleDraft::new(1);
    let bytes = draft.bytes();
    let bundle = read(&bytes, &Trust::AllowUnsigned).unwrap();
    assert_eq!(bundle.manifest().name, "tiny");
    assert_eq!(bundle.digest(), hex::encode(Sha256::digest(draft.manifest_bytes())));
    assert_eq!(bundle.part("fp32.onnx").unwrap().as_ref(), draft.part_mut("fp32.onnx").as_slice());
    assert!(bundle.part("absent").is_none());
    assert!(!bundle.signed());
}

#[test]
fn a_signature_changes_neither_digest_nor_parts() {
    let mut draft = BundleDraft::new(1);
    let plain = read(&draft.bytes(), &Trust::AllowUnsigned).unwrap();
    draft.keys.push(key(1));
    let bytes = draft.bytes();
    let signed = read(&bytes, &Trust::Keys(vec![trusted(2), trusted(1)])).unwrap();
    assert_eq!(signed.digest(), plain.digest());
    assert_eq!(signed.signers(), [trusted(1).id()]);
    assert!(signed.claimed_signers().is_empty());
    let unchecked = read(&bytes, &Trust::AllowUnsigned).unwrap();
    assert!(!unchecked.signed() && unchecked.claimed_signers() == [trusted(1).id()]);
}

#[test]
fn a_file_opens_as_its_bytes_do_and_only_a_regular_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.locus");
    std::fs::write(&path, BundleDraft::new(1).bytes()).unwrap();
    assert!(Bundle::open(&path, &Trust::AllowUnsigned).is_ok());
    let tight = Limits { bundle_bytes: 1024, ..Limits::default() };
    let too_large = Bundle::open_within(&path, &Trust::AllowUnsigned, &tight);
    assert!(matches!(too_large, Err(BundleError::Archive(ArchiveError::TooLarge { .. }))));
    let sparse = folder.path().join("sparse.locus");
    std::fs::write(&sparse, BundleDraft::new(1).bytes()).unwrap();
    let announced = || Bundle::announced(&sparse, &Trust::AllowUnsigned, &Limits::default());
    assert_eq!(announced().unwrap().name, "tiny");
    std::fs::File::options().write(true).open(&sparse).unwrap().set_len(1 << 30).unwrap();
    assert!(matches!(announced(), Err(BundleError::Archive(ArchiveError::Tail { .. }))));
    let absent = Bundle::open(folder.path().join("absent"), &Trust::AllowUnsigned);
    assert!(matches!(absent, Err(BundleError::Open { .. })));
    let a_folder = Bundle::open(folder.path(), &Trust::AllowUnsigned);
    assert!(matches!(a_folder, Err(BundleError::Archive(ArchiveError::NotAFile))));
}

#[test]
fn every_dishonest_archive_is_refused_for_its_own_reason() {
    let good = archive(&draft().entries());
    let longer_tail = [good.clone(), vec![0; 20 * 512], b"x".repeat(512)].concat();
    let hidden_tail = {
        let mut bytes = good.clone();
        *bytes.last_mut().unwrap() = 1;
        bytes
    };
    let pax = {
        let mut bytes = Vec::new();
        let mut extended = header("pax", 30);
        extended.set_entry_type(tar::EntryType::XHeader);
        extended.set_cksum();
        push_entry(&mut bytes, &extended, b"30 path=../../../etc/passwd  \n");
        bytes.extend_from_slice(&good);
        bytes
    };
    let gnu = with_header(|header| header.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0"));
    let bad_sum = {
        let mut bytes = good.clone();
        bytes[148] ^= 1;
        bytes
    };
    let huge = with_header(|header| header.set_size(8 << 30));
    let base256 = with_header(|header| {
        header.as_mut_bytes()[124..136]
            .copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    });
    let link_name = with_header(|header| header.as_mut_bytes()[157..161].copy_from_slice(b"/etc"));
    let prefix = with_header(|header| header.as_mut_bytes()[345..348].copy_from_slice(b"../"));
    let cases: Vec<(&str, Vec<u8>, Refusal)> = vec![
        ("an empty file", Vec::new(), |e| matches!(e, BundleError::Archive(ArchiveError::Truncated { .. }))),
        ("a file cut in a block", good[..good.len() - 7].to_vec(), |e| {
            matches!(e, BundleError::Archive(ArchiveError::Truncated { .. }))
        }),
        ("no closing blocks", good[..good.len() - 1024].to_vec(), |e| matches!(e, BundleError::Archive(_))),
        ("one closing block", good[..good.len() - 512].to_vec(), |e| matches!(e, BundleError::Archive(_))),
        ("cut in the last part", good[..good.len() - 4096].to_vec(), |e| {
            matches!(e, BundleError::Archive(ArchiveError::PartTooLarge { .. }))
        }),
        ("only zeros", vec![0; 2048], |e| matches!(e, BundleError::Order { index: 0, .. })),
        ("a second archive behind the end", [good.clone(), good.clone()].concat(), |e| {
            matches!(e, BundleError::Archive(ArchiveError::Tail { .. }))
        }),
        ("bytes far behind the end", longer_tail, |e| {
            matches!(e, BundleError::Archive(ArchiveError::Tail { .. }))
        }),
        ("a byte in the closing blocks", hidden_tail, |e| {
            matches!(e, BundleError::Archive(ArchiveError::Tail { .. }))
        }),
        ("an absolute path", renamed("/etc/passwd"), |e| {
            matches!(e, BundleError::Archive(ArchiveError::Name { .. }))
        }),
        ("a path upwards", renamed("../tokenizer.json"), |e| {
            matches!(e, BundleError::Archive(ArchiveError::Name { .. }))
        }),
        ("a path into a folder", renamed("parts/tokenizer.json"), |e| {
            matches!(e, BundleError::Archive(ArchiveError::Name { .. }))
        }),
        ("an upper-case name", renamed("Tokenizer.json"), |e| {
            matches!(e, BundleError::Archive(ArchiveError::Name { .. }))
        }),
        ("an empty name", renamed(""), |e| matches!(e, BundleError::Archive(ArchiveError::Name { .. }))),
        ("a name prefix", prefix, |e| matches!(e, BundleError::Archive(ArchiveError::Name { .. }))),
        ("a symbolic link", typed(tar::EntryType::Symlink), |e| {
            matches!(e, BundleError::Archive(ArchiveError::NotRegular { kind: '2', .. }))
        }),
        ("a hard link", typed(tar::EntryType::Link), |e| {
            matches!(e, BundleError::Archive(ArchiveError::NotRegular { kind: '1', .. }))
        }),
        ("a folder", typed(tar::EntryType::Directory), |e| {
            matches!(e, BundleError::Archive(ArchiveError::NotRegular { .. }))
        }),
        ("a device", typed(tar::EntryType::Char), |e| {
            matches!(e, BundleError::Archive(ArchiveError::NotRegular { .. }))
        }),
        ("a FIFO", typed(tar::EntryType::Fifo), |e| {
            matches!(e, BundleError::Archive(ArchiveError::NotRegular { .. }))
        }),
        ("a GNU long name", typed(tar::EntryType::GNULongName), |e| {
            matches!(e, BundleError::Archive(ArchiveError::NotRegular { .. }))
        }),
        ("a sparse file", typed(tar::EntryType::GNUSparse), |e| {
            matches!(e, BundleError::Archive(ArchiveError::NotRegular { .. }))
        }),
        ("a pax header", pax, |e| {
            matches!(e, BundleError::Archive(ArchiveError::NotRegular { kind: 'x', .. }))
        }),
        ("a GNU header", gnu, |e| matches!(e, BundleError::Archive(ArchiveError::NotUstar { .. }))),
        ("a wrong checksum", bad_sum, |e| matches!(e, BundleError::Archive(ArchiveError::Header { .. }))),
        ("eight gigabytes announced", huge, |e| {
            matches!(e, BundleError::Archive(ArchiveError::PartTooLarge { .. } | ArchiveError::Header { .. }))
        }),
        ("a base-256 size", base256, |e| matches!(e, BundleError::Archive(ArchiveError::Header { .. }))),
        ("a link name on a file", link_name, |e| {
            matches!(e, BundleError::Archive(ArchiveError::Header { .. }))
        }),
    ];
    refuse_all(cases, &Trust::AllowUnsigned);
}

#[test]
fn every_dishonest_content_is_refused_for_its_own_reason() {
    let zero_digest = "0".repeat(64);
    let cases: Vec<(&str, Vec<u8>, Refusal)> = vec![
        ("no manifest", with_entries(|e| drop(e.remove(0))), |e| {
            matches!(e, BundleError::Order { index: 0, .. })
        }),
        ("a part twice", with_entries(|e| e.insert(2, e[1].clone())), |e| {
            matches!(e, BundleError::Order { index: 2, .. })
        }),
        (
            "a part too many",
            with_entries(|e| e.push(("extra.json".into(), b"{}".to_vec()))),
            |e| matches!(e, BundleError::Order { expected, .. } if expected == "the end of the archive"),
        ),
        ("a second manifest", with_entries(|e| e.push(e[0].clone())), |e| {
            matches!(e, BundleError::Order { .. })
        }),
        (
            "a part missing",
            with_entries(|e| drop(e.pop())),
            |e| matches!(e, BundleError::Order { got, .. } if got == "the end of the archive"),
        ),
        ("parts in another order", with_entries(|e| e.swap(1, 2)), |e| {
            matches!(e, BundleError::Order { .. })
        }),
        ("a shorter part", with_entries(|e| e[1].1.truncate(9)), |e| matches!(e, BundleError::Size { .. })),
        ("one bit changed", with_entries(|e| e.last_mut().unwrap().1[100] ^= 1), |e| {
            matches!(e, BundleError::Sha256 { .. })
        }),
        ("a manifest that is no JSON", with_entries(|e| e[0].1 = b"{".to_vec()), |e| {
            matches!(e, BundleError::Manifest { .. })
        }),
        ("a manifest of two megabytes", with_entries(|e| e[0].1 = vec![b' '; 2 << 20]), |e| {
            matches!(e, BundleError::Archive(ArchiveError::PartTooLarge { limit: 1_048_576, .. }))
        }),
        ("a deeply nested manifest", with_entries(|e| e[0].1 = vec![b'['; 100_000]), |e| {
            matches!(e, BundleError::Manifest { .. })
        }),
        (
            "signatures that do not parse",
            with_entries(|e| e.insert(1, ("signatures.json".into(), b"[]".to_vec()))),
            |e| matches!(e, BundleError::Trust(TrustError::Malformed { .. })),
        ),
        ("another format", with_manifest(|m| m["format"] = 2.into()), |e| {
            matches!(e, BundleError::Manifest { .. })
        }),
        (
            "a digest of zeros",
            with_manifest(move |m| m["parts"][0]["sha256"] = zero_digest.clone().into()),
            |e| matches!(e, BundleError::Sha256 { .. }),
        ),
        ("a part listed twice", with_manifest(|m| m["parts"][1] = m["parts"][0].clone()), |e| {
            matches!(e, BundleError::Part { .. } | BundleError::Manifest { .. })
        }),
        ("an unknown part listed", with_manifest(|m| m["parts"][1]["name"] = "run.sh".into()), |e| {
            matches!(e, BundleError::Part { .. } | BundleError::Manifest { .. })
        }),
        ("a path listed", with_manifest(|m| m["parts"][1]["name"] = "../config.json".into()), |e| {
            matches!(e, BundleError::Part { .. } | BundleError::Manifest { .. })
        }),
        (
            "the manifest lists itself",
            with_manifest(|m| m["parts"][1]["name"] = "manifest.json".into()),
            |e| matches!(e, BundleError::Part { .. } | BundleError::Manifest { .. }),
        ),
        ("no graph listed", with_manifest(|m| drop(m["parts"].as_array_mut().unwrap().remove(3))), |e| {
            matches!(e, BundleError::MissingPart { name: "fp32.onnx" } | BundleError::Manifest { .. })
        }),
        ("a newer box wanted", with_manifest(|m| m["min_edge_version"] = "99.0.0".into()), |e| {
            matches!(e, BundleError::MinVersion { .. })
        }),
        (
            "another tokenizer's fingerprint",
            with_manifest(|m| m["tokenizer"]["fingerprint"] = "ab".repeat(32).into()),
            |e| matches!(e, BundleError::Tokenizer { what: "fingerprint", .. }),
        ),
        ("another k", with_manifest(|m| m["tokenizer"]["kmer"] = 4.into()), |e| {
            matches!(e, BundleError::Tokenizer { what: "k", .. } | BundleError::Manifest { .. })
        }),
        ("a bucket of zero", with_manifest(|m| m["graph"]["buckets"] = vec![0].into()), |e| {
            matches!(e, BundleError::Contract { .. } | BundleError::Manifest { .. })
        }),
        (
            "a bucket beyond the training length",
            with_manifest(|m| m["graph"]["buckets"] = vec![64, 4096].into()),
            |e| matches!(e, BundleError::Contract { .. } | BundleError::Manifest { .. }),
        ),
        ("a batch of four billion", with_manifest(|m| m["graph"]["max_batch"] = u32::MAX.into()), |e| {
            matches!(e, BundleError::Contract { .. } | BundleError::Manifest { .. })
        }),
        ("no labels", with_manifest(|m| m["labels"] = Vec::<String>::new().into()), |e| {
            matches!(e, BundleError::Contract { what: "labels", .. })
        }),
        (
            "a label that would be answered inverted",
            with_manifest(|m| m["labels"][0] = "benign".into()),
            |e| matches!(e, BundleError::Contract { what: "labels", .. }),
        ),
        ("a second label", with_manifest(|m| m["labels"] = vec!["benign", "pathogenic"].into()), |e| {
            matches!(e, BundleError::Contract { what: "labels", .. })
        }),
        (
            "an input that the engine does not feed",
            with_manifest(|m| m["graph"]["inputs"][0]["name"] = "ids".into()),
            |e| matches!(e, BundleError::Contract { what: "graph.inputs", .. }),
        ),
        (
            "an input of another width",
            with_manifest(|m| m["graph"]["inputs"][6]["shape"][1] = "1".into()),
            |e| matches!(e, BundleError::Contract { what: "graph.inputs", .. }),
        ),
        (
            "an output that the engine does not read",
            with_manifest(|m| m["graph"]["outputs"][0]["dtype"] = "float16".into()),
            |e| matches!(e, BundleError::Contract { what: "graph.outputs", .. }),
        ),
        ("seven golden vectors", with_manifest(|m| m["golden"]["count"] = 7.into()), |e| {
            matches!(e, BundleError::Contract { what: "golden.count", .. })
        }),
        ("a tolerance of zero", with_manifest(|m| m["golden"]["tolerance_int8"] = 0.0.into()), |e| {
            matches!(e, BundleError::Contract { what: "golden.tolerance_int8", .. })
        }),
        (
            "a tolerance that everything passes",
            with_manifest(|m| m["golden"]["tolerance_fp32"] = 0.011.into()),
            |e| matches!(e, BundleError::Contract { what: "golden.tolerance_fp32", .. }),
        ),
        ("the same in INT8", with_manifest(|m| m["golden"]["tolerance_int8"] = 1e9.into()), |e| {
            matches!(e, BundleError::Contract { what: "golden.tolerance_int8", .. })
        }),
        (
            "a temperature of zero",
            with_manifest(|m| m["probability"]["modes"]["transcript"]["temperature"] = 0.0.into()),
            |e| matches!(e, BundleError::Contract { .. } | BundleError::Manifest { .. }),
        ),
    ];
    refuse_all(cases, &Trust::AllowUnsigned);
}

#[test]
fn every_doubtful_signature_is_refused_where_one_is_required() {
    let mut unsigned = draft();
    let mut foreign = draft();
    foreign.keys.push(key(9));
    let digest_of = |draft: &BundleDraft| -> [u8; 32] { Sha256::digest(draft.manifest_bytes()).into() };
    let with_signatures = |file: Vec<u8>| {
        let mut entries = draft().entries();
        entries.insert(1, ("signatures.json".into(), file));
        archive(&entries)
    };
    let other_digest = with_signatures(signatures(&[&key(1)], &[7; 32]));
    let good = signatures(&[&key(1)], &digest_of(&draft()));
    let flipped = {
        let mut text = String::from_utf8(good.clone()).unwrap();
        let at = text.find("\"signature\":\"").unwrap() + 20;
        let digit = if &text[at..=at] == "0" { "1" } else { "0" };
        text.replace_range(at..=at, digit);
        with_signatures(text.into_bytes())
    };
    let resealed = {
        let mut changed = draft();
        changed.manifest["security_counter"] = 99.into();
        let mut entries = changed.entries();
        entries.insert(1, ("signatures.json".into(), good.clone()));
        archive(&entries)
    };
    let late = {
        let mut entries = draft().entries();
        entries.push(("signatures.json".into(), good));
        archive(&entries)
    };
    let cases: Vec<(&str, Vec<u8>, Refusal)> = vec![
        ("unsigned", unsigned.bytes(), |e| matches!(e, BundleError::Trust(TrustError::Unsigned { .. }))),
        ("signed by a stranger", foreign.bytes(), |e| {
            matches!(e, BundleError::Trust(TrustError::UnknownSigner { .. }))
        }),
        ("a signature over another digest", other_digest, |e| {
            matches!(e, BundleError::Trust(TrustError::Invalid { .. }))
        }),
        ("a changed digit", flipped, |e| matches!(e, BundleError::Trust(TrustError::Invalid { .. }))),
        ("a manifest changed after signing", resealed, |e| {
            matches!(e, BundleError::Trust(TrustError::Invalid { .. }))
        }),
        ("signatures at the end", late, |e| matches!(e, BundleError::Trust(TrustError::Unsigned { .. }))),
    ];
    refuse_all(cases, &Trust::Keys(vec![trusted(1)]));
    let empty = read(&draft().bytes(), &Trust::Keys(Vec::new()));
    assert!(matches!(empty, Err(BundleError::Trust(TrustError::NoKeys))));
}

#[test]
fn an_unsigned_bundle_is_refused_before_any_part_is_read() {
    let bytes = draft().bytes();
    let manifest_and_next_header = 512 + (draft().manifest_bytes().len().next_multiple_of(512)) + 512;
    let head = &bytes[..manifest_and_next_header];
    let got = Bundle::read(head, bytes.len() as u64, &Trust::Keys(vec![trusted(1)]), &Limits::default());
    assert!(matches!(got, Err(BundleError::Trust(TrustError::Unsigned { .. }))));
}

#[test]
fn no_single_byte_can_be_changed_unnoticed() {
    let mut draft = draft();
    draft.keys.push(key(1));
    let good = draft.bytes();
    let trust = Trust::Keys(vec![trusted(1)]);
    let opened = read(&good, &trust).unwrap();
    // Headers carry fields that mean nothing here (mode, times, owners): those may differ, the content may not.
    for at in (0..good.len()).step_by(97) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        if let Ok(bundle) = read(&bytes, &trust) {
            assert_eq!(bundle.digest(), opened.digest(), "byte {at}");
            for part in &opened.manifest().parts {
                assert_eq!(bundle.part(&part.name), opened.part(&part.name), "byte {at}");
            }
        }
    }
}

fn refuse_all(cases: Vec<(&str, Vec<u8>, Refusal)>, trust: &Trust) {
    for (name, bytes, is_right) in cases {
        match read(&bytes, trust) {
            Ok(_) => panic!("{name}: opened"),
            Err(error) => {
                assert!(is_right(&error), "{name}: {error:?}");
                let text = error.to_string();
                assert!(text.len() > 20 && text.len() < 400, "{name}: {text}");
            }
        }
    }
}
