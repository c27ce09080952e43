//! The journal as a whole: what comes out, what a power cut leaves, what tampering shows.

mod crash;
mod kept;
mod suite;
mod tamper;

use super::*;
use crate::{
    clock::ManualClock,
    keys::Identity,
    vfs::{FaultyVfs, OsVfs},
};

pub(super) const DIR: &str = "/journal";
/// Where finished segments are copied to.
const COPY: &str = "/copy";

/// A box with its keys, on a simulated disk.
pub(super) struct Rig {
    pub(super) vfs: FaultyVfs,
    pub(super) clock: Arc<ManualClock>,
    pub(super) hospital: Arc<Identity>,
    pub(super) config: JournalConfig,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::on(FaultyVfs::new(), Arc::new(Identity::generate().unwrap()))
    }

    pub(super) fn on(vfs: FaultyVfs, hospital: Arc<Identity>) -> Self {
        let clock = Arc::new(ManualClock::new(1_790_000_000_000));
        let config = JournalConfig {
            vfs: Arc::new(vfs.clone()),
            clock: clock.clone(),
            device_key: SigningKey::from_bytes(&[3; 32]),
            index_key: IndexKey::generate().unwrap(),
            recipients: vec![hospital.recipient()],
            rotation: Rotation { records: 3, ..Rotation::default() },
            remember: 100,
            accept_damage: false,
            reserve_bytes: 0,
            synchronized: None,
        };
        Self { vfs, clock, hospital, config }
    }

    pub(super) fn open(&self) -> Result<(Journal, Recovery), JournalError> {
        Journal::open(Path::new(DIR), self.config.clone())
    }

    pub(super) fn device(&self) -> ed25519_dalek::VerifyingKey {
        self.config.device_key.verifying_key()
    }

    pub(super) fn verify(&self, receipts: &[Receipt]) -> Result<Report, JournalError> {
        let witnesses = Witnesses { receipts: receipts.to_vec(), ..Witnesses::default() };
        verify(&self.vfs, Path::new(DIR), &self.device(), &witnesses)
    }

    pub(super) fn export(&self) -> Vec<Result<Exported, JournalError>> {
        self.export_for(&self.hospital).unwrap()
    }

    fn export_for(&self, identity: &Identity) -> Result<Vec<Result<Exported, JournalError>>, JournalError> {
        Ok(export(&self.vfs, Path::new(DIR), &self.device(), identity)?.collect())
    }

    /// What every record says; panics on damage.
    pub(super) fn texts(&self) -> Vec<String> {
        let text = |record: Result<Exported, JournalError>| match record.unwrap().content {
            Content::Open(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => format!("{other:?}"),
        };
        self.export().into_iter().map(text).collect()
    }

    fn request(&self, n: u64) -> RequestHash {
        let (key, id) = (&self.config.index_key, n.to_string());
        RequestHash { id: key.request("bed-3", &id), body: key.body("bed-3", &id, &n.to_le_bytes()) }
    }

    pub(super) fn upkeep(&self) -> Upkeep {
        let JournalConfig { vfs, clock, device_key, index_key, .. } = self.config.clone();
        Upkeep::new(vfs, ClockWatch::new(clock, 0, None), Path::new(DIR), device_key, index_key)
    }

    /// As the daemon does it: the open segment by the thread that writes, the others beside it.
    pub(super) fn erase(&self, journal: &mut Journal, subject: &str) -> Result<Erased, JournalError> {
        let upkeep = self.upkeep();
        let hold = upkeep.hold();
        let (open, erased) = journal.erase(subject)?;
        Ok(erased.and(hold.erase(None, Some(open), subject)?))
    }

    pub(super) fn entry(&self, n: u64) -> Entry {
        let plaintext = Zeroizing::new(format!(r#"{{"n":{n}}}"#).into_bytes());
        Entry {
            plaintext,
            request: Some(self.request(n)),
            subject: None,
            bundle: [7; 32],
            repeat_of: None,
            terminal: Some(self.config.index_key.terminal("bed-3")),
        }
    }

    pub(super) fn entry_of(&self, n: u64, subject: &str) -> Entry {
        Entry { subject: Some(subject.to_owned()), ..self.entry(n) }
    }
}

#[test]
fn what_was_appended_comes_out_over_rotations_and_restarts() {
    let rig = Rig::new();
    let mut receipts = Vec::new();
    for start in [0, 4, 8] {
        let (mut journal, recovery) = rig.open().unwrap();
        assert!(recovery.clean);
        assert_eq!(recovery.records, start);
        receipts.extend(journal.append(&[rig.entry(start), rig.entry(start + 1)]).unwrap());
        receipts.extend(journal.append(&[rig.entry(start + 2)]).unwrap());
        receipts.extend(journal.append(&[rig.entry(start + 3)]).unwrap());
        assert!(journal.append(&[]).unwrap().is_empty());
        journal.close().unwrap();
    }
    assert_eq!(receipts.iter().map(|receipt| receipt.index).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
    let report = rig.verify(&receipts).unwrap();
    assert!(report.complete(), "{report:?}");
    assert_eq!((report.segments, report.records, report.shredded), (6, 12, 0));
    assert_eq!(rig.texts(), (0..12).map(|n| format!(r#"{{"n":{n}}}"#)).collect::<Vec<_>>());
    for (record, receipt) in rig.export().into_iter().zip(&receipts) {
        let record = record.unwrap();
        assert_eq!(&record.receipt, receipt);
        let line: serde_json::Value = serde_json::from_str(&record.to_json_line()).unwrap();
        assert_eq!(line["record"]["n"], receipt.index);
        assert_eq!(line["receipt"]["leaf"], receipt.leaf.as_str());
        assert_eq!(line["bundle"], "07".repeat(32));
    }
}

#[test]
fn a_segment_ends_by_age_and_by_bytes_but_not_while_it_is_empty() {
    let mut rig = Rig::new();
    rig.config.rotation = Rotation { records: 1000, bytes: 4000, age_ms: 60_000 };
    let (mut journal, _) = rig.open().unwrap();
    rig.clock.advance_ms(120_000);
    assert!(!journal.rotate_if_due().unwrap());
    journal.append(&[rig.entry(0)]).unwrap();
    assert!(journal.rotate_if_due().unwrap());
    rig.clock.set_unix_ms(5);
    journal.append(&[rig.entry(1)]).unwrap();
    assert!(!journal.rotate_if_due().unwrap());
    let big = Entry { plaintext: Zeroizing::new(vec![b' '; 4000]), ..rig.entry(2) };
    journal.append(&[big]).unwrap();
    assert!(journal.rotate_if_due().unwrap());
    let too_large = Entry { plaintext: Zeroizing::new(vec![0; MAX_ENTRY + 1]), ..rig.entry(3) };
    assert!(matches!(journal.append(&[too_large]), Err(JournalError::TooLarge { .. })));
    rig.clock.set_unix_ms(9);
    journal.append(&[rig.entry(3)]).unwrap();
    rig.clock.set_unix_ms(8);
    journal.append(&[rig.entry(4)]).unwrap();
    journal.close().unwrap();
    let report = rig.verify(&[]).unwrap();
    assert!(report.complete());
    assert_eq!((report.segments, report.clock_steps_back), (3, 1));
}

#[test]
fn each_recipient_reads_and_nobody_else() {
    let mut rig = Rig::new();
    let (escrow, stranger) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    rig.config.recipients = vec![rig.hospital.recipient(), escrow.recipient()];
    let (mut journal, _) = rig.open().unwrap();
    journal.append(&[rig.entry(0)]).unwrap();
    journal.close().unwrap();
    assert_eq!(rig.texts(), [r#"{"n":0}"#]);
    let content = |records: Vec<Result<Exported, JournalError>>| -> Vec<Content> {
        records.into_iter().map(|record| record.unwrap().content).collect()
    };
    assert!(matches!(content(rig.export_for(&escrow).unwrap())[..], [Content::Open(_)]));
    let refused = rig.export_for(&stranger).unwrap_err();
    assert!(refused.to_string().contains(&escrow.recipient().id()), "{refused}");
    // A recipient who comes later reads what comes later.
    rig.config.recipients = vec![stranger.recipient()];
    let (mut journal, _) = rig.open().unwrap();
    journal.append(&[rig.entry(1)]).unwrap();
    journal.close().unwrap();
    let records = content(rig.export_for(&stranger).unwrap());
    assert!(matches!(records[..], [Content::SealedToOthers, Content::Open(_)]));
    rig.config.recipients.clear();
    assert!(matches!(rig.open(), Err(JournalError::NoRecipients)));
    // As many as there may be are found again in the head of a segment; one more is refused before it is written.
    rig.config.recipients = vec![escrow.recipient(); format::MAX_RECIPIENTS - 1];
    rig.config.recipients.push(stranger.recipient());
    rig.open().unwrap().0.close().unwrap();
    assert!(rig.export_for(&stranger).is_ok());
    rig.config.recipients.push(stranger.recipient());
    assert!(matches!(rig.open(), Err(JournalError::TooManyRecipients { got: 129, limit: 128 })));
}

#[test]
fn a_shredded_subject_is_gone_and_the_chain_still_verifies() {
    let rig = Rig::new();
    let (mut journal, _) = rig.open().unwrap();
    let mut receipts = Vec::new();
    for n in 0..5 {
        let entry = if n % 2 == 0 { rig.entry_of(n, "ward-7/sample-12") } else { rig.entry_of(n, "other") };
        receipts.extend(journal.append(&[entry]).unwrap());
    }
    let open = rig.vfs.fork();
    assert_eq!(rig.erase(&mut journal, "nobody").unwrap(), Erased::default());
    let erased = rig.erase(&mut journal, "ward-7/sample-12").unwrap();
    assert_eq!(erased, Erased { records: 3, keys: 2, segments: 2 });
    assert_eq!(rig.erase(&mut journal, "ward-7/sample-12").unwrap(), Erased::default());
    receipts.extend(journal.append(&[rig.entry_of(5, "ward-7/sample-12")]).unwrap());
    journal.close().unwrap();
    let report = rig.verify(&receipts).unwrap();
    assert!(report.complete(), "{report:?}");
    assert_eq!(report.shredded, 3);
    let shredded = "Shredded";
    assert_eq!(rig.texts(), [shredded, r#"{"n":1}"#, shredded, r#"{"n":3}"#, shredded, r#"{"n":5}"#]);
    let line = rig.export().remove(0).unwrap().to_json_line();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["unreadable"], "shredded");
    // Before, it could be read; nothing but the tables changed.
    let before = export(&open, Path::new(DIR), &rig.device(), &rig.hospital).unwrap();
    assert!(before.map(Result::unwrap).all(|record| matches!(record.content, Content::Open(_))));
}

#[test]
fn requests_are_recognised_after_a_restart_without_their_ids_on_the_disk() {
    let rig = Rig::new();
    let (mut journal, _) = rig.open().unwrap();
    for n in 0..4 {
        journal.append(&[rig.entry(n)]).unwrap();
    }
    journal.append(&[Entry { repeat_of: Some(1), ..rig.entry(1) }]).unwrap();
    drop(journal);
    let (journal, recovery) = rig.open().unwrap();
    assert_eq!((recovery.clean, recovery.records, recovery.torn_bytes), (false, 5, 0));
    let known = journal.known();
    for n in 0..4 {
        assert_eq!(known.find(&rig.request(n)), Seen::Repeat { index: n, bundle: [7; 32] });
    }
    let mut other = rig.request(2);
    other.body[0] ^= 1;
    assert_eq!(known.find(&other), Seen::Reused { index: 2 });
    assert_eq!(known.find(&rig.request(9)), Seen::New);
    for (path, bytes) in rig.vfs.files() {
        let body = &rig.request(2).body[..4];
        assert!(!bytes.windows(4).any(|window| window == body), "enough of a body to test a guess: {path:?}");
    }
    assert_eq!(rig.export()[4].as_ref().unwrap().repeat_of, Some(1));
    drop(journal);
    let few = JournalConfig { remember: 1, ..rig.config.clone() };
    let (journal, _) = Journal::open(Path::new(DIR), few).unwrap();
    assert_eq!(journal.known().len(), 1);
}

#[test]
fn requests_without_an_id_push_nothing_out_of_what_is_remembered() {
    let mut rig = Rig::new();
    rig.config.remember = 2;
    let (mut journal, _) = rig.open().unwrap();
    journal.append(&[rig.entry(0)]).unwrap();
    for n in 1..9 {
        journal.append(&[Entry { request: None, ..rig.entry(n) }]).unwrap();
        assert_eq!((journal.known().len(), journal.next_index()), (1, n + 1));
    }
    journal.append(&[rig.entry(9)]).unwrap();
    journal.close().unwrap();
    rig.config.remember = 100;
    let (journal, _) = rig.open().unwrap();
    assert_eq!(journal.known().len(), 2);
    assert_eq!(journal.known().find(&rig.request(0)), Seen::Repeat { index: 0, bundle: [7; 32] });
    assert_eq!(rig.texts().len(), 10);
}

#[test]
fn nothing_readable_lies_on_the_disk() {
    let canary = "GATTACAGATTACACCGTTAGCATGCCGATATTCGCGAATCCGGTTAACCTTGGAAGCTTA";
    let rig = Rig::new();
    let (mut journal, _) = rig.open().unwrap();
    for n in 0..4 {
        let plaintext = Zeroizing::new(format!(r#"{{"sequence":"{canary}"}}"#).into_bytes());
        journal.append(&[Entry { plaintext, subject: Some(canary.to_owned()), ..rig.entry(n) }]).unwrap();
    }
    let debugged = format!("{journal:?}");
    journal.close().unwrap();
    let holds = |bytes: &[u8], part: &str| bytes.windows(part.len()).any(|window| window == part.as_bytes());
    for (path, bytes) in rig.vfs.files() {
        for part in [&canary[..12], "sequence", "bed-3"] {
            assert!(!holds(&bytes, part), "{part} in {}", path.display());
        }
    }
    assert!(!debugged.contains(&canary[..12]));
    assert!(rig.texts().iter().all(|text| text.contains(canary)));
    // Equal entries have nothing in common.
    let segments = rig.vfs.files();
    let bytes = &segments.iter().find(|(path, _)| path.ends_with("00000001.seg")).unwrap().1;
    let tail = &bytes[bytes.len() - 200..bytes.len() - 180];
    assert_eq!(bytes.windows(tail.len()).filter(|window| *window == tail).count(), 1);
}

#[test]
fn two_processes_cannot_write_one_journal() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new();
    let config = JournalConfig { vfs: Arc::new(OsVfs), ..rig.config.clone() };
    let dir = folder.path().join("state/journal");
    let (mut journal, _) = Journal::open(&dir, config.clone()).unwrap();
    assert!(matches!(Journal::open(&dir, config.clone()), Err(JournalError::Locked { .. })));
    let receipts = journal.append(&[rig.entry_of(0, "s"), rig.entry(1)]).unwrap();
    let checkpoint = journal.checkpoint().unwrap().clone();
    drop(journal);
    let (journal, recovery) = Journal::open(&dir, config).unwrap();
    assert_eq!(recovery.records, 2);
    journal.close().unwrap();
    let witnesses = Witnesses { receipts, checkpoints: vec![checkpoint], ..Witnesses::default() };
    let report = verify(&OsVfs, &dir, &rig.device(), &witnesses).unwrap();
    assert!(report.complete(), "{report:?}");
    let read: Vec<_> = export(&OsVfs, &dir, &rig.device(), &rig.hospital).unwrap().collect();
    assert!(read.iter().all(|record| matches!(record.as_ref().unwrap().content, Content::Open(_))));
    let empty = folder.path().join("state");
    assert!(matches!(verify(&OsVfs, &empty, &rig.device(), &witnesses), Err(JournalError::Empty { .. })));
}
