//! Reference packs: power cuts, full disks, damage, strangers.

use std::{fs, path::PathBuf, sync::Arc};

use ed25519_dalek::{Signer, SigningKey};
use locus_engine::TrustedKey;
use locus_firmware_config::{
    manifest::{Part, key_id, signing_message},
    pack::{KIND, PACK_FORMAT, PackManifest},
};
use locus_genome::{ReferencePack, packed};
use sha2::{Digest, Sha256};

use super::*;
use crate::{
    slots::FileSlotStore,
    vfs::{Fault, FaultyVfs},
};

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn trust() -> Trust {
    Trust::Keys(vec![TrustedKey::from_bytes(key(1).verifying_key().as_bytes()).unwrap()])
}

/// A pack in a file of a folder.
fn pack(folder: &Path, name: &str, counter: u64, signer: Option<u8>) -> PathBuf {
    let at = |name: &str| folder.join(name);
    fs::write(at("r.fa"), format!(">chr1\n{}\n", "ACGGTCATTGCA".repeat(9_000))).unwrap();
    fs::write(
        at("r.gff3"),
        "chr1\t.\tmRNA\t11\t90\t.\t+\t.\tID=T1;Parent=G\nchr1\t.\texon\t11\t90\t.\t+\t.\tParent=T1\n",
    )
    .unwrap();
    let built = packed::build(&at("r.fa"), &at("r.gff3"), folder).unwrap();
    let parts: Vec<(&str, Vec<u8>)> = packed::PARTS.map(|name| (name, fs::read(at(name)).unwrap())).into();
    let part = |(name, bytes): &(&str, Vec<u8>)| Part {
        name: (*name).into(),
        size: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(bytes)),
    };
    let manifest = PackManifest {
        kind: KIND.into(),
        format: PACK_FORMAT,
        name: name.into(),
        version: "1.0.0".parse().unwrap(),
        security_counter: counter,
        min_edge_version: "0.1.0".parse().unwrap(),
        assembly: "GRCh38".into(),
        records: built.records,
        bases: built.bases,
        transcripts: built.transcripts,
        genes: built.genes,
        sources: std::collections::BTreeMap::new(),
        created: "2026-01-01".into(),
        parts: parts.iter().map(part).collect(),
    };
    let manifest = manifest.to_json().unwrap();
    let digest: [u8; 32] = Sha256::digest(&manifest).into();
    let mut entries = vec![("manifest.json", manifest)];
    if let Some(signer) = signer.map(key) {
        let signature = serde_json::json!({"signatures": [{
            "key_id": key_id(signer.verifying_key().as_bytes()),
            "algorithm": "ed25519",
            "signature": hex::encode(signer.sign(&signing_message(&digest)).to_bytes()),
        }]});
        entries.push(("signatures.json", serde_json::to_vec(&signature).unwrap()));
    }
    entries.extend(parts);
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in &entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    let path = at(&format!("{name}.locus"));
    fs::write(&path, builder.into_inner().unwrap()).unwrap();
    path
}

fn open(vfs: &FaultyVfs) -> FileSlotStore {
    FileSlotStore::open(Arc::new(vfs.clone()), Path::new("/packs")).unwrap()
}

/// The genome of a pack with its digest, read through to its first bases.
fn prove(pack: Pack) -> Result<String, BoxError> {
    let digest = pack.digest().to_owned();
    let genome: ReferencePack = pack.into_reference()?;
    genome.bases_around("chr1", 50, 20)?;
    Ok(digest)
}

fn flash(store: &mut dyn SlotStore, path: &Path, served: &mut Option<String>) -> Result<Flashed, SlotError> {
    let serves = served.clone();
    let serves = |digest: &str| serves.as_deref() == Some(digest);
    flash_pack(store, path, &trust(), &|_| {}, &serves, prove, |digest| *served = Some(digest))
}

fn booted(store: &mut dyn SlotStore) -> PackBoot<String> {
    boot_pack(store, &trust(), &|_| false, &mut prove).unwrap()
}

fn active(store: &dyn SlotStore) -> Option<String> {
    store.state().unwrap().of(PACK_SLOTS).active
}

#[test]
fn a_fault_at_every_operation_leaves_exactly_one_whole_pack() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (pack(folder.path(), "old", 1, Some(1)), pack(folder.path(), "new", 2, Some(1)));
    let base = FaultyVfs::new();
    let mut first = None;
    let old_digest = flash(&mut open(&base), &old, &mut first).unwrap().digest;
    let faults = [
        Fault::PowerCut,
        Fault::Error(std::io::ErrorKind::StorageFull),
        Fault::Lasting(std::io::ErrorKind::StorageFull),
    ];
    let mut unsettled = 0;
    for fault in faults {
        for at in 1.. {
            let vfs = base.fork();
            let mut store = open(&vfs);
            let before = vfs.operations();
            vfs.fail_at(before + at, fault);
            let mut served = first.clone();
            let flashed = flash(&mut store, &new, &mut served);
            let reached = vfs.operations() - before >= at;
            if fault != Fault::PowerCut {
                assert_eq!(served, active(&store), "{fault:?} at {at}: {flashed:?}");
            }
            unsettled += u32::from(matches!(flashed, Err(SlotError::Unsettled { .. })));
            drop(store);
            for seed in 0..3 {
                let vfs = vfs.clone();
                vfs.restart(at * 3 + seed);
                let mut store = open(&vfs);
                let boot = booted(&mut store);
                let now = active(&store);
                assert_eq!(boot.genome, now, "{fault:?} at {at}: {:?}", boot.notices);
                let slots = store.state().unwrap().of(PACK_SLOTS);
                assert_eq!(slots.floor == 2, now.as_deref() != Some(&old_digest), "{fault:?} at {at}");
                assert!(slots.trial.is_none());
                if let Ok(flashed) = &flashed {
                    assert_eq!(now.as_ref(), Some(&flashed.digest), "what was told lasts");
                }
            }
            if !reached {
                assert!(flashed.is_ok(), "{flashed:?}");
                break;
            }
        }
    }
    assert!(unsettled > 0, "an error came after the rename");
}

#[test]
fn strangers_downgrades_and_damage_are_refused_and_the_pack_before_serves_on() {
    let folder = tempfile::tempdir().unwrap();
    let made = |name: &str, counter, signer| pack(folder.path(), name, counter, signer);
    let vfs = FaultyVfs::new();
    let (mut store, mut served) = (open(&vfs), None);
    let good = flash(&mut store, &made("good", 5, Some(1)), &mut served).unwrap();
    assert!(flash(&mut store, &made("good", 5, Some(1)), &mut served).unwrap().unchanged);
    let writes = vfs.operations();
    for (path, text) in [
        (made("unsigned", 6, None), "unsigned"),
        (made("stranger", 6, Some(2)), "signed by"),
        (made("older", 4, Some(1)), "counter"),
    ] {
        let error = flash(&mut store, &path, &mut served).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
        assert_eq!(vfs.operations(), writes, "nothing was written for it");
    }
    let cut = made("cut", 6, Some(1));
    let bytes = fs::read(&cut).unwrap();
    for at in [bytes.len() - 9_000, bytes.len() - 20_000, 3_000] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        fs::write(&cut, &bytes).unwrap();
        assert!(flash(&mut store, &cut, &mut served).is_err(), "{at}");
    }
    assert_eq!((served.as_ref(), active(&store).as_ref()), (Some(&good.digest), Some(&good.digest)));
    let next = flash(&mut store, &made("next", 6, Some(1)), &mut served).unwrap();
    assert_eq!(next.previous.as_ref(), Some(&good.digest));
    let back = roll_back_pack(&mut store, &trust(), prove, |_| {});
    assert!(matches!(back, Err(SlotError::Downgrade { got: 5, floor: 6 })), "{back:?}");
}

#[test]
fn a_damaged_pack_falls_back_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let vfs = FaultyVfs::new();
    let (mut store, mut served) = (open(&vfs), None);
    let one = flash(&mut store, &pack(folder.path(), "one", 1, Some(1)), &mut served).unwrap();
    let two = flash(&mut store, &pack(folder.path(), "two", 1, Some(1)), &mut served).unwrap();
    let back = roll_back_pack(&mut store, &trust(), prove, |digest| served = Some(digest)).unwrap();
    assert_eq!((back.digest.as_ref(), served.as_ref()), (one.digest.as_str(), Some(&one.digest)));
    flash(&mut store, &folder.path().join("two.locus"), &mut served).unwrap();
    // In its transcripts, which are read at the start.
    let path = format!("/packs/bundles/{}.locus", two.digest);
    vfs.tamper(Path::new(&path), |bytes| bytes[3_000] ^= 1).unwrap();
    let boot = booted(&mut store);
    assert_eq!(boot.genome.as_ref(), Some(&one.digest));
    assert!(boot.notices[0].contains("previous one serves"), "{:?}", boot.notices);
    let crashes = |_: &str| true;
    for _ in 0..crate::slots::MAX_CRASHES {
        let mut never = |_: Pack| -> Result<String, BoxError> { Err("it never starts".into()) };
        boot_pack(&mut store, &trust(), &crashes, &mut never).unwrap();
    }
    assert_eq!(store.state().unwrap().of(PACK_SLOTS).set_back, Some(two.digest));
    assert_eq!(active(&store), Some(one.digest));
}
