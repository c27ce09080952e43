//! What the box finds on its own disk: journal, audit trail; and what others kept of the journal.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use locus_edge::{
    audit::{self, About, Audit, Stage, What},
    clock::ManualClock,
    journal::{
        Checkpoint, Entry, Journal, JournalConfig, Proof, Receipt, Rotation, Witnesses, export, on_disk,
        prove, recall, verify,
    },
    keys::{Identity, IndexKey, Recipient},
    vfs::{Access, Vfs as _, write_new},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{corpus, memory::Memory};

/// The journal of the cases.
pub(crate) const DIR: &str = "/journal";
/// Its files in a case, in order.
pub(crate) const FILES: [&str; 5] =
    ["00000001.seg", "00000001.sub", "00000002.seg", "00000002.sub", "freed.json"];
const AUDIT: &str = "/audit";
/// Its files in a case, in order.
pub(crate) const TRAIL: [&str; 2] = ["audit.before.jsonl", "audit.jsonl"];
const SIGNATURE: usize = 64;

/// The device of the cases.
pub(crate) fn device_key() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::from_bytes(&[3; 32]))
}

fn device() -> &'static VerifyingKey {
    static DEVICE: OnceLock<VerifyingKey> = OnceLock::new();
    DEVICE.get_or_init(|| device_key().verifying_key())
}

/// Who opens the results of the cases.
pub(crate) fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let (vfs, path) = (Memory::default(), Path::new("/identity"));
        let line = key_line("LOCUS-IDENTITY-X25519-", &[5; 32]);
        write_new(&vfs, path, line.as_bytes(), Access::Private).expect("a file");
        Identity::read(&vfs, path).expect("an identity")
    })
}

/// A key as its files hold it.
pub(crate) fn key_line(prefix: &str, key: &[u8; 32]) -> String {
    format!("{prefix}{}{}\n", hex::encode(key), hex::encode(&Sha256::digest(key)[..4]))
}

/// A disk with these files.
pub(super) fn disk(folder: &str, names: &[&str], files: &[&[u8]]) -> Memory {
    let vfs = Memory::default();
    for (name, bytes) in names.iter().zip(files).filter(|(_, bytes)| !bytes.is_empty()) {
        vfs.put(Path::new(folder).join(name), bytes);
    }
    vfs
}

/// A segment whose header and commits are signed again, so that what lies behind the signatures is reached.
fn signed_again(segment: &[u8], number: u64) -> Vec<u8> {
    let (mut bytes, mut at, mut journal) = (segment.to_vec(), 0, [0; 16]);
    while let Some(head) = bytes.get(at..at + 5) {
        let (kind, len) = (head[0], u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize);
        let Some(payload) = (at + 5).checked_add(len).and_then(|end| bytes.get_mut(at + 5..end)) else {
            break;
        };
        let Some((said, signature)) = payload.split_last_chunk_mut::<SIGNATURE>() else { break };
        let message = match kind {
            b'H' => {
                let header: Option<serde_json::Value> = serde_json::from_slice(said).ok();
                let id = header.as_ref().and_then(|header| header["journal"].as_str());
                let _ = id.is_some_and(|id| hex::decode_to_slice(id, &mut journal).is_ok());
                [b"locus-segment-v1\0", &*said].concat()
            }
            b'C' => [b"locus-checkpoint-v2\0".as_slice(), &journal, &number.to_le_bytes(), said].concat(),
            _ => {
                at += 5 + len;
                continue;
            }
        };
        *signature = device_key().sign(&message).to_bytes();
        at += 5 + len;
    }
    bytes
}

/// The files as they are, or signed again: by the parity of their length, since signatures take most of the time.
fn on_disks(bytes: &[u8]) -> Memory {
    let files: [&[u8]; 5] = corpus::split(bytes);
    if bytes.len().is_multiple_of(2) {
        return disk(DIR, &FILES, &files);
    }
    let (first, second) = (signed_again(files[0], 1), signed_again(files[2], 2));
    let again: [&[u8]; 5] = [&first, files[1], &second, files[3], files[4]];
    disk(DIR, &FILES, &again)
}

/// A journal in which nothing is wrong opens to as many records as it says, and each can be proved.
pub(super) fn journal(bytes: &[u8]) {
    let (dir, vfs) = (Path::new(DIR), on_disks(bytes));
    let _ = on_disk(&vfs, dir, device());
    let mut recalled = 0;
    let _ = recall(&vfs, dir, device(), "07", |_| recalled += 1);
    let Ok(report) = verify(&vfs, dir, device(), &Witnesses::default()) else { return };
    assert!(recalled <= report.records);
    let Ok(records) = export(&vfs, dir, device(), identity()) else { return };
    let records: Vec<_> = records.collect();
    if report.intact() {
        let good: Vec<_> = records.into_iter().collect::<Result<_, _>>().expect("nothing is wrong");
        assert_eq!(good.len() as u64, report.records);
        if let Some(record) = good.last() {
            let proof = prove(&vfs, dir, device(), record.receipt.index, None).expect("a record has a proof");
            assert_eq!(proof.check(device(), Some(&record.receipt), None), Ok(()));
            let _ = (record.to_json_line(), record.to_csv_row(), record.to_fhir());
        }
    }
}

pub(crate) fn config(vfs: &Memory, accept_damage: bool) -> JournalConfig {
    static INDEX: OnceLock<IndexKey> = OnceLock::new();
    static RECIPIENT: OnceLock<Recipient> = OnceLock::new();
    JournalConfig {
        vfs: Arc::new(vfs.clone()),
        clock: Arc::new(ManualClock::new(1_790_000_000_000)),
        device_key: device_key().clone(),
        index_key: INDEX.get_or_init(|| IndexKey::generate().expect("a key")).clone(),
        recipients: vec![RECIPIENT.get_or_init(|| identity().recipient()).clone()],
        rotation: Rotation { records: 2, ..Rotation::default() },
        remember: 100,
        accept_damage,
        reserve_bytes: 0,
        synchronized: None,
    }
}

pub(crate) fn entry(text: &str, subject: Option<&str>) -> Entry {
    Entry {
        plaintext: Zeroizing::new(text.as_bytes().to_vec()),
        request: None,
        subject: subject.map(str::to_owned),
        bundle: [7; 32],
        repeat_of: None,
        terminal: None,
    }
}

/// A journal that opens takes records, and what it acknowledges is there, whatever lay there before.
pub(super) fn journal_open(bytes: &[u8]) {
    let (vfs, accept) = (on_disks(bytes), bytes.len() % 4 < 2);
    let Ok((mut journal, _)) = Journal::open(Path::new(DIR), config(&vfs, accept)) else { return };
    let Ok(receipts) = journal.append(&[entry("{}", None), entry("{}", Some("s"))]) else { return };
    if journal.close().is_err() {
        return;
    }
    let witnesses = Witnesses { receipts, ..Witnesses::default() };
    let report = verify(&vfs, Path::new(DIR), device(), &witnesses).expect("it can be read");
    let lost = |code| ["receipt", "truncated"].contains(&code);
    assert!(!report.findings.iter().any(|finding| lost(finding.code)), "{:?}", report.findings);
}

/// What others keep is read, written and read again as the same, and proves nothing by itself.
pub(super) fn witness(bytes: &[u8]) {
    if let Ok(checkpoint) = serde_json::from_slice::<Checkpoint>(bytes) {
        let again = serde_json::to_vec(&checkpoint).expect("it serialises");
        assert_eq!(
            serde_json::from_slice::<Checkpoint>(&again).expect("what was written is read"),
            checkpoint
        );
        checkpoint.verify(device());
    }
    if let Ok(receipt) = serde_json::from_slice::<Receipt>(bytes) {
        let again = serde_json::to_vec(&receipt).expect("it serialises");
        assert_eq!(serde_json::from_slice::<Receipt>(&again).expect("what was written is read"), receipt);
    }
    if let Ok(mut proof) = serde_json::from_slice::<Proof>(bytes) {
        let _ = proof.check(device(), None, None);
        // Under a head that the device signed, so that the path is looked at.
        let journal: Option<[u8; 16]> =
            hex::decode(&proof.checkpoint.journal).ok().and_then(|id| id.try_into().ok());
        let hash = |text: &str| hex::decode(text).ok().filter(|hash| hash.len() == 32);
        let head = &mut proof.checkpoint;
        if let (Some(journal), Some(root), Some(tree)) = (journal, hash(&head.root), hash(&head.tree)) {
            let mut fields = Vec::new();
            [head.commit, head.first, head.records].iter().for_each(|word| fields.extend(word.to_le_bytes()));
            fields.extend(root.iter().chain(&tree));
            fields.extend(head.unix_ms.to_le_bytes());
            fields.push(u8::from(head.closed));
            let segment = head.segment.to_le_bytes();
            let message = [b"locus-checkpoint-v2\0".as_slice(), &journal, &segment, &fields].concat();
            head.signature = hex::encode(device_key().sign(&message).to_bytes());
            assert!(head.verify(device()), "it is signed now");
            let _ = proof.check(device(), None, None);
        }
    }
}

/// An audit trail that opens takes an entry, which is then its last one.
pub(super) fn audit(bytes: &[u8]) {
    let files: [&[u8]; 2] = corpus::split(bytes);
    let again = files.map(|file| {
        let lines = file.split(|byte| *byte == b'\n').map(|line| {
            let read: Option<serde_json::Value> = serde_json::from_slice(line).ok();
            let entry =
                read.and_then(|read| serde_json::from_value::<audit::Entry>(read["entry"].clone()).ok());
            entry.map_or_else(|| line.to_vec(), |entry| audit_line(&entry))
        });
        lines.collect::<Vec<_>>().join(&b'\n')
    });
    for files in [files, [&again[0], &again[1]]] {
        let vfs = disk(AUDIT, &TRAIL, &files);
        let _ = audit::verify(&vfs, Path::new(AUDIT), device()).expect("it can be read");
        let clock = Arc::new(ManualClock::new(1_790_000_000_000));
        let Ok(mut trail) = Audit::open(Arc::new(vfs.clone()), clock, Path::new(AUDIT), device_key().clone())
        else {
            continue;
        };
        let about = About { subject: Some("fuzz".into()), ..About::default() };
        if trail.note(What::Flash, Stage::Noted, about).is_ok() {
            let after = audit::verify(&vfs, Path::new(AUDIT), device()).expect("it can be read");
            assert_eq!(after.entries.last().and_then(|entry| entry.subject.as_deref()), Some("fuzz"));
        }
    }
}

/// A line of the trail, signed.
pub(crate) fn audit_line(entry: &audit::Entry) -> Vec<u8> {
    let json = serde_json::to_vec(entry).expect("it serialises");
    let message = [b"locus-audit-v1\0".as_slice(), &Sha256::digest(&json)].concat();
    let signature = hex::encode(device_key().sign(&message).to_bytes());
    serde_json::to_vec(&serde_json::json!({ "entry": entry, "signature": signature })).expect("it serialises")
}

/// The files of a folder, as a case.
pub(crate) fn case_of(vfs: &Memory, folder: &str, names: &[&str]) -> Vec<u8> {
    let files =
        names.iter().map(|name| vfs.read(&Path::new(folder).join(name), u64::MAX).unwrap_or_default());
    let files: Vec<Vec<u8>> = files.collect();
    corpus::join(&files.iter().map(Vec::as_slice).collect::<Vec<_>>())
}
