//! What is done with finished segments: copied, freed, proved, recalled.

use super::*;
use crate::vfs::Access;

#[test]
fn what_is_copied_is_proved_before_anything_is_freed() {
    let rig = Rig::new();
    let (mut journal, _) = rig.open().unwrap();
    let mut receipts = Vec::new();
    for n in 0..7 {
        receipts.extend(journal.append(&[rig.entry_of(n, "s")]).unwrap());
    }
    let open = journal.checkpoint().unwrap().segment;
    let upkeep = rig.upkeep();
    let kept = upkeep.hold().offload(Path::new(COPY), Some(open), None).unwrap();
    assert_eq!((kept.segments, kept.records, kept.freed), (2, 6, Freed::default()));
    assert_eq!(upkeep.known().unwrap(), (2, 0, 0));
    // A copy that rots before it is looked at again keeps everything here.
    let copied = Path::new(COPY).join("00000001.seg");
    rig.vfs.tamper(&copied, |bytes| bytes[300] ^= 1).unwrap();
    let again = upkeep.hold().offload(Path::new(COPY), Some(open), Some(&Keep::default())).unwrap();
    assert!(again.copied_bytes > 0, "it was copied anew");
    assert_eq!((again.freed.segments, again.freed.records), (2, 6));
    receipts.extend(journal.append(&[rig.entry_of(7, "s")]).unwrap());
    journal.close().unwrap();
    assert_eq!(upkeep.known().unwrap(), (2, 2, 6));
    let alone = rig.verify(&receipts).unwrap();
    assert!(alone.complete(), "{alone:?}");
    assert_eq!((alone.records, alone.freed[0].records, alone.freed[0].why), (2, 6, Why::Copied));
    let copy = verify(&rig.vfs, Path::new(COPY), &rig.device(), &Witnesses::default()).unwrap();
    assert!(copy.complete() && copy.records == 6, "{copy:?}");
    // The box goes on after a restart, and remembers what it still has.
    let (journal, recovery) = rig.open().unwrap();
    assert_eq!((recovery.records, recovery.clean), (8, true));
    journal.close().unwrap();
    // Another journal's folder is not written into.
    let other = Rig::new();
    let (mut journal, _) = other.open().unwrap();
    journal.append(&[other.entry(0)]).unwrap();
    journal.close().unwrap();
    for (path, bytes) in other.vfs.files() {
        let mut file = rig.vfs.create(&Path::new("/other").join(path.file_name().unwrap()), Access::Group);
        if file.is_err() {
            rig.vfs.create_dir_all(Path::new("/other")).unwrap();
            file = rig.vfs.create(&Path::new("/other").join(path.file_name().unwrap()), Access::Group);
        }
        file.unwrap().append(&bytes).unwrap();
    }
    let refused = upkeep.hold().offload(Path::new("/other"), None, Some(&Keep::default()));
    assert!(matches!(refused, Err(JournalError::OtherJournal { .. })), "{refused:?}");
    // The subject is erased in the copy too.
    let erased = upkeep.hold().erase(Some(Path::new(COPY)), None, "s").unwrap();
    assert_eq!(erased.records, 6);
    let copy = verify(&rig.vfs, Path::new(COPY), &rig.device(), &Witnesses::default()).unwrap();
    assert!(copy.complete() && copy.shredded == 6, "{copy:?}");
}

#[test]
fn what_is_freed_is_said_and_nobody_else_can_say_it() {
    let mut rig = Rig::new();
    rig.config.rotation = Rotation { records: 2, age_ms: u64::MAX, ..Rotation::default() };
    let (mut journal, _) = rig.open().unwrap();
    let mut receipts = Vec::new();
    for n in 0..7 {
        receipts.extend(journal.append(&[rig.entry(n)]).unwrap());
        rig.clock.advance_ms(86_400_000);
    }
    let open = journal.checkpoint().unwrap().segment;
    let upkeep = Upkeep::new(
        rig.config.vfs.clone(),
        journal.clock(),
        Path::new(DIR),
        rig.config.device_key.clone(),
        rig.config.index_key.clone(),
    );
    let by = |keep: Keep| upkeep.hold().retain(&keep, open, false).unwrap().segments;
    let days = |days| Keep { days: Some(days), without_copy: true, ..Keep::default() };
    assert_eq!(by(Keep { days: Some(0), ..Keep::default() }), 0, "without a copy nothing goes");
    assert_eq!(by(days(30)), 0);
    // A clock that jumps frees nothing.
    let right = rig.clock.unix_ms();
    rig.clock.set_unix_ms(right + 10 * 365 * 86_400_000);
    assert_eq!(by(days(30)), 0);
    rig.clock.set_unix_ms(right);
    assert_eq!(by(days(4)), 1);
    let size = rig.vfs.len(&Path::new(DIR).join(format::file_name(2))).unwrap();
    assert_eq!(by(Keep { bytes: Some(size * 2), without_copy: true, ..Keep::default() }), 1);
    journal.close().unwrap();
    let report = rig.verify(&receipts).unwrap();
    assert!(report.complete(), "{report:?}");
    assert_eq!((report.freed[0].records, report.freed[0].why), (4, Why::Policy));
    assert_eq!((report.freed[0].first_segment, report.freed[0].last_segment), (1, 2));
    // What the note does not name is missing, and the note is the device's.
    let note = Path::new(DIR).join("freed.json");
    let len = rig.vfs.len(&note).unwrap() as usize;
    for at in 0..len {
        let vfs = rig.vfs.fork();
        vfs.tamper(&note, |bytes| bytes[at] ^= 1).unwrap();
        let report = verify(&vfs, Path::new(DIR), &rig.device(), &Witnesses::default()).unwrap();
        assert!(!report.intact(), "byte {at} of the note");
    }
    let vfs = rig.vfs.fork();
    vfs.remove(&note).unwrap();
    assert!(!verify(&vfs, Path::new(DIR), &rig.device(), &Witnesses::default()).unwrap().intact());
    let vfs = rig.vfs.fork();
    vfs.remove(&Path::new(DIR).join(format::file_name(3))).unwrap();
    assert!(!verify(&vfs, Path::new(DIR), &rig.device(), &Witnesses::default()).unwrap().intact());
}

#[test]
fn one_record_is_proved_to_somebody_who_has_nothing_else() {
    let rig = Rig::new();
    let (mut journal, _) = rig.open().unwrap();
    let mut receipts = journal.append(&[rig.entry(0), rig.entry(1)]).unwrap();
    let early = journal.checkpoint().unwrap().clone();
    for n in 2..8 {
        receipts.extend(journal.append(&[rig.entry(n)]).unwrap());
    }
    journal.close().unwrap();
    let proof = |index, under| prove(&rig.vfs, Path::new(DIR), &rig.device(), index, under);
    for receipt in &receipts {
        let proof = proof(receipt.index, None).unwrap();
        let text = serde_json::to_string(&proof).unwrap();
        let proof: Proof = serde_json::from_str(&text).unwrap();
        assert_eq!(proof.check(&rig.device(), Some(receipt), None), Ok(()));
        let other = &receipts[(receipt.index as usize + 1) % receipts.len()];
        assert_eq!(proof.check(&rig.device(), Some(other), None), Err(Unproved::Receipt));
        assert_eq!(proof.check(&rig.device(), None, Some(&early)), Err(Unproved::Checkpoint));
        let forger = SigningKey::from_bytes(&[9; 32]).verifying_key();
        assert_eq!(proof.check(&forger, None, None), Err(Unproved::Signature));
        let mut forged = proof.clone();
        forged
            .receipt
            .leaf
            .replace_range(..2, if forged.receipt.leaf.starts_with("00") { "01" } else { "00" });
        assert_eq!(forged.check(&rig.device(), None, None), Err(Unproved::Path));
        forged = proof.clone();
        forged.receipt.index += 1;
        assert_eq!(forged.check(&rig.device(), None, None), Err(Unproved::Path));
        forged = proof.clone();
        forged.checkpoint.first = u64::MAX;
        assert_eq!(forged.check(&rig.device(), None, None), Err(Unproved::Signature));
        forged = proof.clone();
        forged.receipt.journal = "00".repeat(16);
        assert_eq!(forged.check(&rig.device(), None, None), Err(Unproved::Journal));
    }
    // Under the head that somebody kept, and under no other.
    let under = proof(1, Some(&early)).unwrap();
    assert_eq!(under.check(&rig.device(), Some(&receipts[1]), Some(&early)), Ok(()));
    assert!(matches!(proof(2, Some(&early)), Err(JournalError::NotUnder { .. })));
    assert!(matches!(proof(8, None), Err(JournalError::NoRecord { .. })));
}

#[test]
fn a_recall_lists_the_answers_of_one_model_without_a_key() {
    let rig = Rig::new();
    let (mut journal, _) = rig.open().unwrap();
    let mut receipts = Vec::new();
    for n in 0..8_u64 {
        let entry = Entry { bundle: [n as u8 % 2 + 1; 32], repeat_of: (n == 5).then_some(3), ..rig.entry(n) };
        receipts.extend(journal.append(&[entry]).unwrap());
    }
    journal.close().unwrap();
    let mut recalled = Vec::new();
    let listed = |digest: &str, recalled: &mut Vec<Recalled>| {
        recalled.clear();
        recall(&rig.vfs, Path::new(DIR), &rig.device(), digest, |one| recalled.push(one)).unwrap()
    };
    assert!(listed(&"02".repeat(32), &mut recalled).is_empty());
    assert_eq!(
        recalled.iter().map(|one| &one.receipt).collect::<Vec<_>>(),
        [1, 3, 5, 7].map(|n| &receipts[n])
    );
    let hash = hex::encode(rig.config.index_key.terminal("bed-3"));
    assert!(recalled.iter().all(|one| one.terminal.as_ref() == Some(&hash) && one.clock_trusted));
    assert_eq!(recalled[2].repeat_of, Some(3));
    assert!(listed("03030303", &mut recalled).is_empty() && recalled.is_empty());
    rig.vfs.tamper(&Path::new(DIR).join("00000002.seg"), |bytes| bytes[20] ^= 1).unwrap();
    assert!(!listed("02020202", &mut recalled).is_empty(), "damage is told");
}
