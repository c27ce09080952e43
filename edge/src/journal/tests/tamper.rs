//! What somebody with the disk in hand can do, and how it shows.

use std::{collections::BTreeMap, path::PathBuf};

use super::*;

/// A small closed journal of two segments, two subjects and a repeat, and its receipts.
fn small() -> (Rig, Vec<Receipt>) {
    let mut rig = Rig::new();
    rig.config.rotation.records = 2;
    let (mut journal, _) = rig.open().unwrap();
    let mut receipts = journal.append(&[rig.entry_of(0, "s"), rig.entry(1)]).unwrap();
    receipts.extend(journal.append(&[rig.entry(2)]).unwrap());
    journal.close().unwrap();
    (rig, receipts)
}

/// The report after a change to the files.
fn after(rig: &Rig, receipts: &[Receipt], change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Report {
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let old: BTreeMap<String, Vec<u8>> =
        rig.vfs.files().into_iter().map(|(path, bytes)| (name(path), bytes)).collect();
    let mut new = old.clone();
    change(&mut new);
    assert_ne!(old, new, "the attack does nothing");
    let vfs = FaultyVfs::new();
    vfs.create_dir_all(Path::new(DIR)).unwrap();
    for (name, bytes) in new {
        vfs.create(&Path::new(DIR).join(name), crate::vfs::Access::Group).unwrap().append(&bytes).unwrap();
    }
    let witnesses = Witnesses { receipts: receipts.to_vec(), ..Witnesses::default() };
    verify(&vfs, Path::new(DIR), &rig.device(), &witnesses).unwrap()
}

fn flips_of(name: &str) {
    let (rig, _) = small();
    let path = Path::new(DIR).join(name);
    let len = rig.vfs.read(&path, 1 << 20).unwrap().len();
    for bit in 0..len * 8 {
        let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
        rig.vfs.tamper(&path, flip).unwrap();
        let report = rig.verify(&[]).unwrap();
        assert!(!report.complete(), "bit {bit} of {name} goes unseen");
        rig.vfs.tamper(&path, flip).unwrap();
    }
    assert!(rig.verify(&[]).unwrap().complete());
}

#[test]
fn every_flipped_bit_of_the_first_segment_is_seen() {
    flips_of("00000001.seg");
}

#[test]
fn every_flipped_bit_of_the_last_segment_is_seen() {
    flips_of("00000002.seg");
}

#[test]
fn every_flipped_bit_of_a_subject_table_is_seen() {
    flips_of("00000001.sub");
}

/// Offsets of the frames of a segment, and its length.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut at = vec![0];
    while let Some(frame) = format::frame_at(bytes, *at.last().unwrap()) {
        at.push(frame.end);
    }
    at
}

#[test]
fn g6_reordered_spliced_removed_repeated_and_forged_parts_are_seen() {
    let (rig, receipts) = small();
    let (other, _) = small();
    let foreign = other.vfs.read(&Path::new(DIR).join("00000002.seg"), 1 << 20).unwrap();
    let (one, two, table) = ("00000001.seg", "00000002.seg", "00000001.sub");
    type Attack<'a> = (&'a str, Box<dyn FnOnce(&mut BTreeMap<String, Vec<u8>>) + 'a>);
    let on = |change: fn(&mut Vec<u8>, &[usize])| {
        move |files: &mut BTreeMap<String, Vec<u8>>| {
            let bytes = files.get_mut("00000001.seg").unwrap();
            let at = frames(bytes);
            change(bytes, &at);
        }
    };
    let attacks: Vec<Attack<'_>> = vec![
        ("first segment removed", Box::new(|f| drop(f.remove(one)))),
        (
            "segments swapped",
            Box::new(|f| {
                let (a, b) = (f[one].clone(), f[two].clone());
                f.extend([(one.to_owned(), b), (two.to_owned(), a)]);
            }),
        ),
        ("segment repeated", Box::new(|f| drop(f.insert("00000003.seg".to_owned(), f[two].clone())))),
        ("segment of another journal", Box::new(|f| drop(f.insert(two.to_owned(), foreign.clone())))),
        ("segment emptied", Box::new(|f| drop(f.insert(one.to_owned(), Vec::new())))),
        (
            "gap in the numbers",
            Box::new(|f| {
                let bytes = f.remove(two).unwrap();
                f.insert("00000003.seg".to_owned(), bytes);
            }),
        ),
        ("records reordered", Box::new(on(|b, at| b[at[1]..at[3]].rotate_left(at[2] - at[1])))),
        ("record removed", Box::new(on(|b, at| drop(b.drain(at[1]..at[2]))))),
        (
            "record repeated",
            Box::new(on(|b, at| {
                let record = b[at[1]..at[2]].to_vec();
                drop(b.splice(at[2]..at[2], record));
            })),
        ),
        ("commit removed", Box::new(on(|b, at| drop(b.drain(at[3]..at[4]))))),
        (
            "commit repeated",
            Box::new(on(|b, at| {
                let commit = b[at[3]..at[4]].to_vec();
                drop(b.splice(at[4]..at[4], commit));
            })),
        ),
        ("cut at a commit that is not the last", Box::new(on(|b, at| b.truncate(at[4])))),
        ("bytes added to a closed segment", Box::new(on(|b, _| b.push(0)))),
        ("table removed", Box::new(|f| drop(f.remove(table)))),
        ("table entry zeroed", Box::new(|f| f.get_mut(table).unwrap()[128..].fill(0))),
        (
            "table of another segment",
            Box::new(|f| drop(f.insert("00000002.sub".to_owned(), f[table].clone()))),
        ),
        ("table without a segment", Box::new(|f| drop(f.insert("00000009.sub".to_owned(), Vec::new())))),
        ("table cut", Box::new(|f| f.get_mut(table).unwrap().truncate(200))),
        ("table header changed", Box::new(|f| f.get_mut(table).unwrap()[16] ^= 1)),
        ("table entry repeated", {
            Box::new(|f| {
                let entry = f[table][128..256].to_vec();
                f.get_mut(table).unwrap().extend(entry);
            })
        }),
        ("subject erased by somebody else", Box::new(|f| f.get_mut(table).unwrap()[128 + 32] = 2)),
        ("header removed", Box::new(on(|b, at| drop(b.drain(..at[1]))))),
        (
            "header of another segment",
            Box::new(|f| {
                let (from, to) = (frames(&f[two])[1], frames(&f[one])[1]);
                let header = f[two][..from].to_vec();
                drop(f.get_mut(one).unwrap().splice(..to, header));
            }),
        ),
        (
            "sealed key exchanged for the thief's",
            Box::new(|f| {
                let text = String::from_utf8_lossy(&f[one][..400]).into_owned();
                let at = text.find("\"enc\":\"").unwrap() + 7;
                f.get_mut(one).unwrap()[at + 1] ^= 1;
            }),
        ),
        (
            "record of another segment",
            Box::new(|f| {
                let at = frames(&f[two]);
                let record = f[two][at[1]..at[2]].to_vec();
                let at = frames(&f[one]);
                drop(f.get_mut(one).unwrap().splice(at[2]..at[3], record));
            }),
        ),
        (
            "commit of another segment",
            Box::new(|f| {
                let at = frames(&f[two]);
                let commit = f[two][at[2]..at[3]].to_vec();
                let at = frames(&f[one]);
                drop(f.get_mut(one).unwrap().splice(at[3]..at[4], commit));
            }),
        ),
        ("index changed", Box::new(on(|b, at| b[at[1] + 5] ^= 1))),
        ("time changed", Box::new(on(|b, at| b[at[1] + 5 + 8] ^= 1))),
        ("clock flag changed", Box::new(on(|b, at| b[at[1] + 5 + 16] ^= 16))),
        ("request's hash changed", Box::new(on(|b, at| b[at[1] + 5 + 17] ^= 1))),
        ("model's digest changed", Box::new(on(|b, at| b[at[1] + 5 + 51] ^= 1))),
        ("subject's entry changed", Box::new(on(|b, at| b[at[1] + 5 + 91] ^= 1))),
        ("terminal's hash changed", Box::new(on(|b, at| b[at[1] + 5 + 127] ^= 1))),
        ("wrapped key changed", Box::new(on(|b, at| b[at[1] + 5 + 135] ^= 1))),
        ("ciphertext changed", Box::new(on(|b, at| b[at[2] - 1] ^= 1))),
        ("Merkle head changed", Box::new(on(|b, at| b[at[3] + 5 + 56] ^= 1))),
        ("commit's time changed", Box::new(on(|b, at| b[at[3] + 5 + 88] ^= 1))),
        ("segment declared closed", Box::new(on(|b, at| b[at[3] + 5 + 96] ^= 1))),
        ("commit's signature zeroed", Box::new(on(|b, at| b[at[4] - 64..at[4]].fill(0)))),
        ("length of a record lies", Box::new(on(|b, at| b[at[1] + 1] ^= 1))),
        ("first segment removed and said to be freed", {
            Box::new(|f| {
                drop(f.remove(one));
                drop(f.remove(table));
                let note = r#"{"note":{"format":1,"journal":"00000000000000000000000000000000","freed":[],"end":{"segment":1,"next_index":2,"root":"00","bytes":9,"closed":true},"copied_to":0},"signature":"00"}"#;
                f.insert("freed.json".to_owned(), note.into());
            })
        }),
        ("an empty segment put behind", Box::new(|f| drop(f.insert("00000003.seg".to_owned(), Vec::new())))),
    ];
    let kinds = attacks.len() + 3;
    for (name, attack) in attacks {
        let report = after(&rig, &[], attack);
        // The one place that only a live box or a witness tells: the table of the last segment may be ahead.
        let told = if name == "table of another segment" { report.complete() } else { !report.intact() };
        assert!(told, "{name} goes unseen: {report:?}");
    }
    let lost = after(&rig, &receipts, |f| drop(f.remove(two)));
    assert_eq!(lost.findings.last().unwrap().code, "truncated", "{lost:?}");
    // Beside these: resealed by another device, history rewritten with the device's key, cut back at a commit.
    println!("G6: {kinds} kinds of tampering: all detected");
}

#[test]
fn another_device_cannot_reseal_a_segment() {
    let (rig, receipts) = small();
    let mut forger = Rig::on(FaultyVfs::new(), rig.hospital.clone());
    forger.config.device_key = SigningKey::from_bytes(&[9; 32]);
    forger.config.rotation.records = 2;
    let (mut journal, _) = forger.open().unwrap();
    journal.append(&[rig.entry(0), rig.entry(1)]).unwrap();
    journal.close().unwrap();
    let path = Path::new(DIR).join("00000001.seg");
    let forged = forger.vfs.read(&path, 1 << 20).unwrap();
    assert!(!after(&rig, &[], |files| drop(files.insert("00000001.seg".to_owned(), forged))).intact());
    assert!(!verify(&forger.vfs, Path::new(DIR), &rig.device(), &Witnesses::default()).unwrap().intact());
    assert!(matches!(
        Journal::open(
            Path::new(DIR),
            JournalConfig { vfs: Arc::new(forger.vfs.clone()), ..rig.config.clone() }
        ),
        Err(JournalError::Lost { .. })
    ));
    // The device's own key rewrites history; whoever was answered sees it.
    let mut thief = Rig::on(FaultyVfs::new(), rig.hospital.clone());
    thief.config.device_key = rig.config.device_key.clone();
    let (mut journal, _) = thief.open().unwrap();
    journal.append(&[rig.entry(0), rig.entry(1)]).unwrap();
    journal.close().unwrap();
    assert!(thief.verify(&[]).unwrap().complete());
    let codes: Vec<&str> = thief.verify(&receipts).unwrap().findings.iter().map(|f| f.code).collect();
    assert_eq!(codes, ["witness", "receipt", "receipt", "truncated"]);
}

#[test]
fn a_checkpoint_kept_elsewhere_shows_a_truncation() {
    let rig = Rig::new();
    let (mut journal, _) = rig.open().unwrap();
    journal.append(&[rig.entry(0)]).unwrap();
    let path = Path::new(DIR).join("00000001.seg");
    let len = rig.vfs.read(&path, 1 << 20).unwrap().len();
    journal.append(&[rig.entry(1)]).unwrap();
    let checkpoint = journal.checkpoint().unwrap().clone();
    drop(journal);
    let verify_with = |checkpoint: Checkpoint| {
        let witnesses = Witnesses { checkpoints: vec![checkpoint], ..Witnesses::default() };
        verify(&rig.vfs, Path::new(DIR), &rig.device(), &witnesses).unwrap()
    };
    assert!(verify_with(checkpoint.clone()).intact());
    rig.vfs.tamper(&path, |bytes| bytes.truncate(len)).unwrap();
    assert!(rig.verify(&[]).unwrap().intact(), "nobody else can see it");
    assert_eq!(verify_with(checkpoint.clone()).findings[0].code, "truncated");
    let forged = Checkpoint { records: 1, ..checkpoint };
    assert_eq!(verify_with(forged).findings[0].code, "checkpoint");
}

#[test]
fn damage_stops_the_box_until_it_is_accepted_and_stays_visible() {
    let (rig, receipts) = small();
    let path = Path::new(DIR).join("00000002.seg");
    let at = frames(&rig.vfs.read(&path, 1 << 20).unwrap());
    rig.vfs.tamper(&path, |bytes| bytes[at[1] + 100] ^= 1).unwrap();
    let error = rig.open().unwrap_err();
    assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
    let accepting = JournalConfig { accept_damage: true, ..rig.config.clone() };
    let (mut journal, recovery) = Journal::open(Path::new(DIR), accepting).unwrap();
    assert_eq!(recovery.damage.len(), 1, "{recovery:?}");
    let next = journal.append(&[rig.entry(3)]).unwrap();
    assert_eq!(next[0].index, 3, "the damaged record keeps its index");
    journal.close().unwrap();
    // Once accepted, the box starts again by itself.
    let (journal, recovery) = rig.open().unwrap();
    assert_eq!((recovery.records, recovery.clean), (4, true));
    journal.close().unwrap();
    let report = rig.verify(&[receipts[..2].to_vec(), next.clone()].concat()).unwrap();
    assert_eq!(report.findings.iter().map(|f| f.code).collect::<Vec<_>>(), ["damaged"], "{report:?}");
    let records = rig.export();
    assert_eq!(records.iter().filter(|record| record.is_ok()).count(), 3);
    assert_eq!(records.iter().filter(|record| record.is_err()).count(), 1);
    assert_eq!(records.last().unwrap().as_ref().unwrap().receipt, next[0]);
}

#[test]
fn a_damaged_header_of_the_last_segment_can_be_accepted_too() {
    let (rig, _) = small();
    let path = Path::new(DIR).join("00000002.seg");
    rig.vfs.tamper(&path, |bytes| bytes[20] ^= 1).unwrap();
    assert!(matches!(rig.open(), Err(JournalError::Damaged { .. })));
    let accepting = JournalConfig { accept_damage: true, ..rig.config.clone() };
    let (mut journal, recovery) = Journal::open(Path::new(DIR), accepting).unwrap();
    assert!(!recovery.damage.is_empty());
    assert_eq!(journal.append(&[rig.entry(3)]).unwrap()[0].index, 3, "the unreadable record keeps its index");
    journal.close().unwrap();
    rig.open().unwrap().0.close().unwrap();
    assert!(!rig.verify(&[]).unwrap().intact());
}

#[test]
fn what_cannot_be_accepted_says_so_and_the_error_that_can_names_the_flag() {
    let (rig, _) = small();
    for change in [0, 1] {
        let vfs = rig.vfs.fork();
        for (path, _) in rig.vfs.files() {
            if path.extension().is_some_and(|end| end == "seg") {
                if change == 0 {
                    vfs.tamper(&path, |bytes| bytes[20] ^= 1).unwrap()
                } else {
                    vfs.remove(&path).unwrap()
                }
            }
        }
        for accept_damage in [false, true] {
            let config = JournalConfig { vfs: Arc::new(vfs.clone()), accept_damage, ..rig.config.clone() };
            let error = Journal::open(Path::new(DIR), config).unwrap_err();
            assert!(matches!(error, JournalError::Lost { .. }), "{error}");
            assert!(error.to_string().contains("--accept-journal-damage` does not help"), "{error}");
        }
    }
    rig.vfs.tamper(&Path::new(DIR).join("00000002.seg"), |bytes| bytes[20] ^= 1).unwrap();
    let error = rig.open().unwrap_err().to_string();
    assert!(error.contains("start once with `locusd --accept-journal-damage`"), "{error}");
}

#[test]
fn the_subject_table_of_accepted_damage_is_kept_as_evidence() {
    let rig = Rig::new();
    let (mut journal, _) = rig.open().unwrap();
    for n in 0..2 {
        journal.append(&[rig.entry_of(n, "s")]).unwrap();
    }
    journal.close().unwrap();
    let (segment, table) = (Path::new(DIR).join("00000001.seg"), Path::new(DIR).join("00000001.sub"));
    let at = frames(&rig.vfs.read(&segment, 1 << 20).unwrap());
    rig.vfs.tamper(&segment, |bytes| bytes[at[1] + 100] ^= 1).unwrap();
    let before = rig.vfs.read(&table, 1 << 20).unwrap();
    let accepting = JournalConfig { accept_damage: true, ..rig.config.clone() };
    Journal::open(Path::new(DIR), accepting).unwrap().0.close().unwrap();
    for _ in 0..3 {
        rig.open().unwrap().0.close().unwrap();
        assert_eq!(rig.vfs.read(&table, 1 << 20).unwrap(), before);
    }
}

#[test]
fn arbitrary_bytes_are_refused_without_harm() {
    use proptest::prelude::*;
    let (rig, _) = small();
    let path = Path::new(DIR).join("00000002.seg");
    let good = rig.vfs.read(&path, 1 << 20).unwrap();
    let strategy = (0..good.len(), proptest::collection::vec(any::<u8>(), 1..64));
    proptest!(ProptestConfig::with_cases(200), |((at, noise) in strategy)| {
        let mut bytes = good.clone();
        let end = bytes.len().min(at + noise.len());
        bytes[at..end].copy_from_slice(&noise[..end - at]);
        if bytes != good {
            let vfs = rig.vfs.fork();
            vfs.tamper(&path, |content| *content = bytes).unwrap();
            let report = verify(&vfs, Path::new(DIR), &rig.device(), &Witnesses::default()).unwrap();
            prop_assert!(!report.complete());
            // Opening recovers or refuses; it does neither panic nor hang.
            let _ = Journal::open(Path::new(DIR), JournalConfig { vfs: Arc::new(vfs), ..rig.config.clone() });
        }
    });
}
