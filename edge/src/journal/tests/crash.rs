//! Power cuts, torn tails, full disks.

use std::io;

use super::*;
use crate::vfs::Fault;

/// What was answered before the power went.
#[derive(Default)]
struct Answered {
    receipts: Vec<Receipt>,
    /// Batches that were being written: they may be there or not, but whole.
    tried: Vec<Vec<u64>>,
}

/// Opens, appends in batches, rotates, shreds, closes: stops at the first error.
fn work(rig: &Rig, from: u64, answered: &mut Answered) -> Result<(), JournalError> {
    let (mut journal, _) = rig.open()?;
    for (first, size) in [(0, 1), (1, 2), (3, 1), (4, 1)] {
        let numbers: Vec<u64> = (from + first..from + first + size).collect();
        let entries: Vec<Entry> = numbers
            .iter()
            .map(|n| if n % 2 == 0 { rig.entry_of(*n, &format!("s{}", n % 4)) } else { rig.entry(*n) })
            .collect();
        answered.tried.push(numbers);
        answered.receipts.extend(journal.append(&entries)?);
    }
    journal.close()
}

fn number_of(text: &str) -> u64 {
    text.trim_start_matches(r#"{"n":"#).trim_end_matches('}').parse().unwrap()
}

/// Everything answered is there, in order, nothing is there in part, and the journal verifies and goes on.
fn check(rig: &Rig, answered: &Answered, context: &str) {
    let (mut journal, recovery) = rig.open().unwrap_or_else(|error| panic!("{context}: {error}"));
    let mut receipts = answered.receipts.clone();
    receipts.extend(journal.append(&[rig.entry(900)]).unwrap());
    journal.close().unwrap();
    let report = rig.verify(&receipts).unwrap();
    assert!(report.complete(), "{context}: {report:?} after {recovery:?}");
    assert_eq!(report.records, recovery.records + 1, "{context}");
    let numbers: Vec<u64> = rig.texts().iter().map(|text| number_of(text)).collect();
    for receipt in &answered.receipts {
        assert!(receipt.index < recovery.records, "{context}");
    }
    for batch in &answered.tried {
        let there = batch.iter().filter(|n| numbers.contains(n)).count();
        assert!(there == 0 || there == batch.len(), "{context}: {batch:?} is there in part: {numbers:?}");
    }
}

#[test]
fn power_cut_at_every_operation_loses_nothing_that_was_answered() {
    let hospital = Arc::new(Identity::generate().unwrap());
    let mut cuts = 0;
    for seed in 0..6 {
        for at in 1.. {
            let rig = Rig::on(FaultyVfs::new(), hospital.clone());
            let mut answered = Answered::default();
            work(&rig, 0, &mut answered).unwrap();
            // The cut comes in a second life, so that there is something to lose.
            rig.vfs.fail_at(rig.vfs.operations() + at, Fault::PowerCut);
            let finished = work(&rig, 5, &mut answered).is_ok();
            rig.vfs.restart(seed * 1000 + at);
            check(&rig, &answered, &format!("seed {seed}, operation {at}"));
            cuts += 1;
            if finished {
                break;
            }
        }
    }
    assert!(cuts > 150, "{cuts}");
}

#[test]
fn power_cuts_during_recovery_lose_nothing_either() {
    let hospital = Arc::new(Identity::generate().unwrap());
    for at in 1.. {
        let mut finished = true;
        for seed in 0..8 {
            let rig = Rig::on(FaultyVfs::new(), hospital.clone());
            let mut answered = Answered::default();
            work(&rig, 0, &mut answered).unwrap();
            let (mut journal, _) = rig.open().unwrap();
            answered.receipts.extend(journal.append(&[rig.entry_of(5, "s")]).unwrap());
            // Cut in the middle of a batch, so that there is a torn tail to recover from.
            rig.vfs.fail_at(rig.vfs.operations() + 3, Fault::PowerCut);
            assert!(journal.append(&[rig.entry_of(6, "t"), rig.entry(7)]).is_err());
            drop(journal);
            answered.tried.push(vec![6, 7]);
            rig.vfs.restart(seed);
            // Three in a row, so that the torn segment is not among the last two any more.
            for again in 0..3 {
                rig.vfs.fail_at(rig.vfs.operations() + at, Fault::PowerCut);
                finished &= rig.open().is_ok();
                rig.vfs.restart(seed + 77 * again);
            }
            check(&rig, &answered, &format!("seed {seed}, operation {at} of recovery"));
        }
        if finished {
            break;
        }
    }
}

#[test]
fn after_a_failed_write_or_sync_there_is_no_receipt_and_no_second_try() {
    let hospital = Arc::new(Identity::generate().unwrap());
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        for lasting in [false, true] {
            for at in 1.. {
                let rig = Rig::on(FaultyVfs::new(), hospital.clone());
                let mut answered = Answered::default();
                let (mut journal, _) = rig.open().unwrap();
                answered.receipts.extend(journal.append(&[rig.entry(0), rig.entry(1)]).unwrap());
                let fault = if lasting { Fault::Lasting(kind) } else { Fault::Error(kind) };
                let before = rig.vfs.operations();
                rig.vfs.fail_at(before + at, fault);
                let mut failed = false;
                for n in 2..6 {
                    answered.tried.push(vec![n]);
                    match journal.append(&[rig.entry_of(n, "s")]) {
                        Ok(receipts) => {
                            assert!(!failed, "a receipt after a failure");
                            answered.receipts.extend(receipts);
                        }
                        Err(JournalError::Poisoned) => assert!(failed),
                        Err(_) => {
                            assert!(!failed);
                            failed = true;
                            assert!(journal.checkpoint().is_none());
                            assert!(matches!(journal.rotate_if_due(), Err(JournalError::Poisoned)));
                        }
                    }
                }
                let reached = rig.vfs.operations() - before >= at;
                assert_eq!(failed, reached, "operation {at} of {:?}", rig.vfs.log());
                drop(journal);
                rig.vfs.restart(at);
                check(&rig, &answered, &format!("{kind:?}, operation {at}"));
                if !reached {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_tail_cut_at_every_byte_gives_back_every_whole_batch() {
    let rig = Rig::new();
    let (mut journal, _) = rig.open().unwrap();
    let path = Path::new(DIR).join("00000001.seg");
    let size = |vfs: &FaultyVfs| vfs.read(&path, u64::MAX - 1).unwrap().len();
    let mut ends = vec![(size(&rig.vfs), 0)];
    let mut receipts = Vec::new();
    for batch in [vec![rig.entry(0)], vec![rig.entry_of(1, "s"), rig.entry(2)]] {
        receipts.extend(journal.append(&batch).unwrap());
        ends.push((size(&rig.vfs), receipts.len()));
    }
    drop(journal);
    let (header, full) = (ends[0].0, ends[2].0);
    for len in header..=full {
        let cut = Rig { vfs: rig.vfs.fork(), ..Rig::on(FaultyVfs::new(), rig.hospital.clone()) };
        cut.vfs.tamper(&path, |bytes| bytes.truncate(len)).unwrap();
        let config = JournalConfig { vfs: Arc::new(cut.vfs.clone()), ..rig.config.clone() };
        let (end, records) = *ends.iter().rfind(|(end, _)| *end <= len).unwrap();
        let before = verify(&cut.vfs, Path::new(DIR), &rig.device(), &Witnesses::default()).unwrap();
        assert!(before.intact() && !before.complete());
        assert_eq!(before.torn_bytes, (len - end) as u64);
        let (journal, recovery) = Journal::open(Path::new(DIR), config).unwrap();
        assert_eq!((recovery.records, recovery.torn_bytes), (records as u64, (len - end) as u64));
        journal.close().unwrap();
        let report = cut.verify(&receipts[..records]).unwrap();
        assert!(report.complete(), "cut at {len}: {report:?}");
        assert_eq!(report.recovered_losses, recovery.torn_records);
        // A terminal that holds a receipt sees what a disk that lost an answer hides.
        assert_eq!(cut.verify(&receipts).unwrap().intact(), records == receipts.len());
    }
    // A segment exists with its whole header or not at all: a shorter one was not left by a power cut.
    for len in 0..header {
        let vfs = rig.vfs.fork();
        vfs.tamper(&path, |bytes| bytes.truncate(len)).unwrap();
        let config = JournalConfig { vfs: Arc::new(vfs), ..rig.config.clone() };
        assert!(matches!(Journal::open(Path::new(DIR), config), Err(JournalError::Lost { .. })));
    }
}

#[test]
fn a_power_cut_while_a_subject_is_shredded_is_made_good_by_doing_it_again() {
    let hospital = Arc::new(Identity::generate().unwrap());
    for at in 1.. {
        let rig = Rig::on(FaultyVfs::new(), hospital.clone());
        let mut receipts = Vec::new();
        let (mut journal, _) = rig.open().unwrap();
        for n in 0..5 {
            receipts.extend(journal.append(&[rig.entry_of(n, "s")]).unwrap());
        }
        rig.vfs.fail_at(rig.vfs.operations() + at, Fault::PowerCut);
        let finished = rig.erase(&mut journal, "s").is_ok();
        drop(journal);
        rig.vfs.restart(at);
        let (mut journal, _) = rig.open().unwrap();
        rig.erase(&mut journal, "s").unwrap();
        journal.close().unwrap();
        let report = rig.verify(&receipts).unwrap();
        assert!(report.complete(), "operation {at}: {report:?}");
        assert_eq!(report.shredded, 5);
        if finished {
            break;
        }
    }
}
