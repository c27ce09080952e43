//! The figures G2 to G7 and G19 of the reliability plan: each says its seeds and its counters.
//!
//! A short form runs always, the long one by `cargo xtask test --full`.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
};

use super::*;
use crate::vfs::Fault;

/// SplitMix64, as the simulated disk's.
struct Seed(u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % (n as u64).max(1)) as usize
    }
}

/// A life of a box: answers in groups, rotation, erasing, a copy elsewhere, freeing, a proper end.
fn live(rig: &Rig, from: u64, receipts: &mut Vec<Receipt>) -> Result<(), JournalError> {
    let (mut journal, _) = rig.open()?;
    for (first, size) in [(0, 1), (1, 2), (3, 2), (5, 1)] {
        let entries: Vec<Entry> = (from + first..from + first + size)
            .map(|n| if n % 2 == 0 { rig.entry_of(n, &format!("s{}", n % 4)) } else { rig.entry(n) })
            .collect();
        receipts.extend(journal.append(&entries)?);
    }
    rig.erase(&mut journal, "s2")?;
    let open = journal.checkpoint().map(|head| head.segment);
    rig.upkeep().hold().offload(Path::new(COPY), open, Some(&Keep::default()))?;
    journal.close()
}

/// Everything answered is in the journal or in its copy, and both verify.
fn check(rig: &Rig, receipts: &[Receipt], context: &str) -> u64 {
    let (mut journal, recovery) = rig.open().unwrap_or_else(|error| panic!("{context}: {error}"));
    // Whoever was not told that the subject is erased asks again: half a word over a key is made good by that.
    rig.erase(&mut journal, "s2").unwrap();
    journal.close().unwrap();
    let copies = if rig.vfs.list(Path::new(COPY)).is_ok() { vec![COPY.into()] } else { Vec::new() };
    let witnesses = Witnesses { receipts: receipts.to_vec(), copies, ..Witnesses::default() };
    let whole = verify(&rig.vfs, Path::new(DIR), &rig.device(), &witnesses).unwrap();
    assert!(whole.complete(), "{context}: {whole:?} after {recovery:?}");
    assert!(whole.freed.is_empty(), "{context}: the copy holds what was freed: {whole:?}");
    let alone = rig.verify(receipts).unwrap();
    assert!(alone.complete(), "{context}: {alone:?}");
    let freed: u64 = alone.freed.iter().map(|span| span.records).sum();
    assert_eq!(alone.records + freed, whole.records, "{context}");
    recovery.torn_records
}

/// G2: the power goes at every operation, under each seed of what the disk keeps, tears and forgets.
fn power_loss(seeds: std::ops::Range<u64>) {
    let hospital = Arc::new(Identity::generate().unwrap());
    let (mut cuts, mut torn) = (0_u64, 0);
    let base = Rig::on(FaultyVfs::new(), hospital.clone());
    let mut first = Vec::new();
    live(&base, 0, &mut first).unwrap();
    let range = format!("{seeds:?}");
    for seed in seeds {
        for at in 1.. {
            let vfs = base.vfs.fork();
            let mut rig = Rig { vfs: vfs.clone(), ..Rig::on(vfs.clone(), hospital.clone()) };
            rig.config = JournalConfig { vfs: Arc::new(vfs), ..base.config.clone() };
            let mut receipts = first.clone();
            rig.vfs.fail_at(rig.vfs.operations() + at, Fault::PowerCut);
            let finished = live(&rig, 6, &mut receipts).is_ok();
            rig.vfs.restart(seed.wrapping_mul(1_000_003) + at);
            torn += check(&rig, &receipts, &format!("seed {seed}, operation {at}"));
            cuts += 1;
            if finished {
                break;
            }
        }
    }
    println!("G2: {cuts} power cuts, seeds {range}: 0 answers lost, {torn} records torn before an answer");
    assert!(cuts > 100);
}

#[test]
fn g2_power_loss_at_every_operation() {
    power_loss(0..4);
}

#[test]
#[ignore = "a thousand seeds at every operation take minutes"]
fn g2_power_loss_at_every_operation_and_a_thousand_seeds() {
    power_loss(0..1_000);
}

/// G3: every byte of every segment of a journal with erased subjects as the place where the last one ends.
#[test]
fn g3_a_tail_cut_at_every_byte_gives_back_every_complete_record() {
    let mut rig = Rig::new();
    rig.config.rotation.records = 100;
    let (mut journal, _) = rig.open().unwrap();
    let path = Path::new(DIR).join("00000001.seg");
    let mut ends = vec![(rig.vfs.len(&path).unwrap(), 0)];
    for batch in 0..6 {
        let entries: Vec<Entry> = (0..=batch % 3).map(|n| rig.entry_of(batch * 3 + n, "s")).collect();
        journal.append(&entries).unwrap();
        ends.push((rig.vfs.len(&path).unwrap(), journal.next_index()));
    }
    drop(journal);
    let (start, full) = (ends[0].0, ends[ends.len() - 1].0);
    for len in start..=full {
        let vfs = rig.vfs.fork();
        vfs.tamper(&path, |bytes| bytes.truncate(len as usize)).unwrap();
        let config = JournalConfig { vfs: Arc::new(vfs.clone()), ..rig.config.clone() };
        let whole = ends.iter().rfind(|(end, _)| *end <= len).unwrap();
        let (journal, recovery) = Journal::open(Path::new(DIR), config).unwrap();
        assert_eq!((recovery.records, recovery.torn_bytes), (whole.1, len - whole.0), "cut at {len}");
        journal.close().unwrap();
        let report = verify(&vfs, Path::new(DIR), &rig.device(), &Witnesses::default()).unwrap();
        assert!(report.complete() && report.records == whole.1, "cut at {len}: {report:?}");
    }
    println!("G3: cut at each of {} bytes: every complete record recovered", full - start + 1);
}

/// G4: one bit of the journal is another; verification sees it, and what is lost is what is said to be lost.
fn bit_flips(flips: u64, seed: u64) {
    let mut rig = Rig::new();
    rig.config.rotation.records = 4;
    let (mut journal, _) = rig.open().unwrap();
    for n in 0..10 {
        journal.append(&[rig.entry_of(n, &format!("s{}", n % 3))]).unwrap();
    }
    journal.close().unwrap();
    let upkeep = rig.upkeep();
    upkeep.hold().offload(Path::new(COPY), None, Some(&Keep::default())).unwrap();
    let files: Vec<(PathBuf, usize)> = rig
        .vfs
        .files()
        .into_iter()
        .filter(|(path, bytes)| path.starts_with(DIR) && !bytes.is_empty())
        .map(|(path, bytes)| (path, bytes.len()))
        .collect();
    let total: usize = files.iter().map(|(_, len)| len).sum();
    let next = AtomicU64::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for thread in 0..cores {
            let (vfs, files, next, rig) = (rig.vfs.fork(), &files, &next, &rig);
            scope.spawn(move || {
                let mut random = Seed(seed + thread as u64);
                while next.fetch_add(1, Ordering::Relaxed) < flips {
                    let mut at = random.below(total);
                    let bit = random.below(8);
                    let (path, _) = files
                        .iter()
                        .find(|(_, len)| {
                            let here = at < *len;
                            if !here {
                                at -= len;
                            }
                            here
                        })
                        .unwrap();
                    vfs.tamper(path, |bytes| bytes[at] ^= 1 << bit).unwrap();
                    let seen = verify(&vfs, Path::new(DIR), &rig.device(), &Witnesses::default());
                    let seen = seen.is_ok_and(|report| report.complete());
                    assert!(!seen, "bit {bit} of byte {at} of {} goes unseen", path.display());
                    vfs.tamper(path, |bytes| bytes[at] ^= 1 << bit).unwrap();
                }
            });
        }
    });
    assert!(rig.verify(&[]).unwrap().complete());
    println!("G4: {flips} bit flips in {} files of {total} bytes, seed {seed}: all detected", files.len());
}

#[test]
fn g4_every_flipped_bit_is_seen() {
    bit_flips(2_000, 1);
}

#[test]
#[ignore = "a million flips take minutes"]
fn g4_a_million_flipped_bits_are_seen() {
    bit_flips(1_000_000, 2);
}

/// G7: whoever has the whole disk and every key on it reads no finished segment, and finds no canary.
#[test]
fn g7_a_stolen_box_gives_no_finished_segment() {
    let canary = "CCGTTAGGCATTACGGATCCATTGCAAGTCGATTACCAGGTTCAACGTGATTACAGGCATT";
    let rig = Rig::new();
    let (mut journal, _) = rig.open().unwrap();
    for n in 0..9 {
        let plaintext = Zeroizing::new(format!(r#"{{"sequence":"{canary}"}}"#).into_bytes());
        let subject = Some(format!("{canary}{n}"));
        journal.append(&[Entry { plaintext, subject, ..rig.entry(n) }]).unwrap();
    }
    let finished = journal.checkpoint().unwrap().segment - 1;
    // The thief takes the disk while the box runs, with the device's and the index key.
    let stolen = rig.vfs.fork();
    let mut secrets: BTreeSet<[u8; 32]> = BTreeSet::from([rig.config.device_key.to_bytes()]);
    for (path, bytes) in stolen.files() {
        assert!(!bytes.windows(12).any(|window| window == &canary.as_bytes()[..12]), "{}", path.display());
        secrets.extend(bytes.windows(32).map(|window| <[u8; 32]>::try_from(window).unwrap()));
    }
    let (mut tried, mut opened) = (0, 0);
    for number in 1..=finished {
        let bytes = stolen.read(&Path::new(DIR).join(format::file_name(number)), 1 << 20).unwrap();
        let mut walk = scan::Walk::behind(number - 1, &rig.device(), scan::Depth::Every);
        let segment = walk.step(number, &bytes).unwrap();
        for placed in &segment.records {
            let record = &placed.record;
            let aad = format::associated_data(&segment.journal, number, &placed.before, record.head_bytes);
            // Every 32 bytes on the disk as the key of the record or of its wrapped key.
            for secret in &secrets {
                let secret = Zeroizing::new(*secret);
                let index = record.head.index;
                let data = seal::decrypt(&secret, seal::Purpose::Record, index, record.ciphertext, &aad);
                let key = seal::unwrap(&secret, seal::Purpose::DataKey, index, record.wrapped, &aad);
                opened += u64::from(data.is_some()) + u64::from(key.is_some());
                tried += 2;
            }
        }
    }
    assert_eq!(opened, 0);
    assert!(finished >= 2 && tried > 10_000, "{tried}");
    journal.close().unwrap();
    assert_eq!(rig.texts().len(), 9);
    println!(
        "G7: {finished} finished segments, {tried} keys from the disk tried on them: 0 opened, no canary"
    );
}

/// G19: the clock jumps by ten years and back, before starts and while the box runs: order by index, all flagged.
#[test]
fn g19_a_clock_that_jumps_costs_nothing_and_is_flagged() {
    const TEN_YEARS: u64 = 10 * 365 * 86_400_000;
    let mut rig = Rig::new();
    rig.config.rotation = Rotation { records: 4, ..Rotation::default() };
    let right = rig.clock.unix_ms();
    let (mut receipts, mut flagged, mut jumps) = (Vec::new(), 0_u64, 0);
    let mut random = Seed(19);
    for life in 0..12 {
        // Only what is earlier than the last record can be told at a start; a later time cannot.
        let at_start = [right + 60_000 * life, right - TEN_YEARS, 0][random.below(3)].max(1);
        rig.clock.set_unix_ms(at_start);
        let (mut journal, recovery) = rig.open().unwrap();
        assert_eq!(recovery.records, receipts.len() as u64, "life {life}");
        let mut believed = None;
        for _ in 0..6 {
            let to = match random.below(5) {
                0 => right + TEN_YEARS,
                1 => right - TEN_YEARS,
                2 => 0,
                3 => rig.clock.unix_ms().saturating_sub(3_600_000),
                _ => rig.clock.unix_ms() + 10,
            };
            jumps += u64::from(to.abs_diff(rig.clock.unix_ms()) > 1_000);
            rig.clock.set_unix_ms(to);
            rig.clock.advance_ms(10);
            let doubted = journal.clock().doubt().is_some();
            let n = receipts.len() as u64;
            receipts.extend(journal.append(&[rig.entry(n)]).unwrap());
            flagged += u64::from(doubted);
            // Once a time was believed, every jump away from it is seen, and its end too.
            let offset = rig.clock.unix_ms().wrapping_sub(rig.clock.monotonic_ms());
            if let Some(believed) = believed {
                assert_eq!(
                    doubted,
                    offset.wrapping_sub(believed).cast_signed().unsigned_abs() > 2_010,
                    "life {life}"
                );
            }
            if !doubted {
                believed = Some(offset);
            }
        }
        journal.close().unwrap();
    }
    let report = rig.verify(&receipts).unwrap();
    assert!(report.complete(), "{report:?}");
    assert_eq!((report.records, report.clock_untrusted), (receipts.len() as u64, flagged));
    assert!(flagged > 10 && flagged < 72 && report.clock_steps_back > 5, "{report:?}");
    let indices: Vec<u64> = rig.export().iter().map(|r| r.as_ref().unwrap().receipt.index).collect();
    assert_eq!(indices, (0..72).collect::<Vec<_>>(), "in the order in which they were answered");
    println!("G19: seed 19, {jumps} jumps, 12 starts, 72 records: 0 lost, {flagged} flagged, order by index");
}
