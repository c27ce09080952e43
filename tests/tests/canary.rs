//! A random sequence is asked about over every transport and then looked for: in every file of the box, in its logs
//! and in its memory, in every shape that it takes on the way.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    time::Duration,
};

use locus_edge::client::Terminal;
use locus_firmware_config::message::{Outcome, Request};
use locus_genome::{KmerTokenizer, dna::reverse_complement};
use locus_tests::{Daemon, Rig};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(20);
const CANARY: usize = 60;
const FLANK: usize = 120;

fn random_bases(n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes.iter().map(|b| b"ACGT"[usize::from(b & 3)]).collect()
}

/// Four bases a byte, first base in the high or in the low bits, by the alphabet ACGT.
fn two_bit(bases: &[u8], high_first: bool) -> Vec<u8> {
    bases
        .chunks_exact(4)
        .map(|four| {
            four.iter().enumerate().fold(0, |byte, (i, base)| {
                let code = b"ACGT".iter().position(|b| b == base).unwrap() as u8;
                byte | code << if high_first { 6 - 2 * i } else { 2 * i }
            })
        })
        .collect()
}

/// Every shape that the canary could lie around in, with its name.
fn shapes(canary: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut shapes = Vec::new();
    for (sense, bases) in [("forward", canary.to_vec()), ("reverse complement", reverse_complement(canary))] {
        shapes.push((format!("{sense} text"), bases.clone()));
        shapes.push((format!("{sense} lower-case text"), bases.to_ascii_lowercase()));
        for phase in 0..4 {
            for high in [true, false] {
                shapes.push((
                    format!("{sense} 2-bit, phase {phase}, high first {high}"),
                    two_bit(&bases[phase..], high),
                ));
            }
        }
        let tokenizer = KmerTokenizer::new(3, 1).unwrap();
        // Without the middle: it differs between reference and alternate.
        let ids: Vec<u32> = bases[..CANARY / 2 - 3].windows(3).map(|kmer| tokenizer.kmer_id(kmer)).collect();
        let wide =
            |width: usize| ids.iter().flat_map(|id| u64::from(*id).to_le_bytes()[..width].to_vec()).collect();
        for width in [1, 2, 4, 8] {
            shapes.push((format!("{sense} token ids of {width} bytes"), wide(width)));
        }
    }
    shapes
}

fn found<'a>(bytes: &[u8], shapes: &'a [(String, Vec<u8>)]) -> Vec<&'a str> {
    shapes.iter().filter(|(_, shape)| contains(bytes, shape)).map(|(name, _)| name.as_str()).collect()
}

fn contains(bytes: &[u8], shape: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| *b == shape[0]) {
        if rest[at..].starts_with(shape) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.metadata().is_ok_and(|m| m.is_file()) {
            into.push(path);
        }
    }
}

/// Everything that the process can write to: what a core would hold.
fn memory(daemon: &Daemon) -> Option<Vec<(String, Vec<u8>)>> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.pid())).ok()?;
    let mut mem = fs::File::open(format!("/proc/{}/mem", daemon.pid())).ok()?;
    let mut regions = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, mode) = (fields.next()?, fields.next()?);
        if !mode.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let mut bytes = vec![0; (to - from) as usize];
        if mem.seek(SeekFrom::Start(from)).is_ok() && mem.read_exact(&mut bytes).is_ok() {
            regions.push((line.to_owned(), bytes));
        }
    }
    Some(regions)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patients_sequence_is_found_nowhere_but_in_the_sealed_journal() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let canary = random_bases(CANARY);
    let sequence = [random_bases(FLANK), canary.clone(), random_bases(FLANK)].concat();
    let at = FLANK + CANARY / 2;
    let alt = if sequence[at - 1] == b'A' { 'C' } else { 'A' };
    let length = sequence.len() as i64;
    let request = |id: &str| Request {
        id: Some(id.into()),
        sequence: Some(String::from_utf8(sequence.clone()).unwrap()),
        mutation: Some(format!("{}{at}{alt}", char::from(sequence[at - 1]))),
        subject: Some("canary-patient-7".into()),
        transcript: Some(locus_firmware_config::message::TranscriptSpec {
            strand: "+".into(),
            exons: vec![(1, length)],
            cds: vec![(1, length / 3 * 3, 0)],
        }),
        ..Request::default()
    };
    let mut terminals = [
        Terminal::Http(daemon.http("ward-1").unwrap()),
        Terminal::Mqtt(Box::new(daemon.mqtt("ward-2").await.unwrap())),
        Terminal::Serial(Box::new(rig.serial().unwrap())),
    ];
    for (n, terminal) in terminals.iter_mut().enumerate() {
        let outcome = terminal.ask(&request(&format!("canary-{n}")), PATIENCE).await.unwrap();
        assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
    }
    // A fault must not leave more behind than an answer does.
    let broken = Request { mutation: Some("A9999999C".into()), ..request("broken") };
    assert!(matches!(terminals[0].ask(&broken, PATIENCE).await.unwrap(), Outcome::Fault(_)));
    // A library's read buffer keeps what came last on an open connection until as much came after it.
    let padding = |n: usize| Request {
        id: Some(format!("padding-{n}")),
        sequence: Some("ACGT".repeat(5_000)),
        mutation: Some("A401C".into()),
        ..Request::default()
    };
    for (n, terminal) in terminals.iter_mut().enumerate() {
        terminal.ask(&padding(n), PATIENCE).await.unwrap();
    }
    drop(terminals);
    let mut shapes = shapes(&canary);
    shapes.push(("the subject".into(), b"canary-patient-7".to_vec()));
    assert!(contains(&sequence, &shapes[0].1), "the search finds what is there");

    let mut left = Vec::new();
    match memory(&daemon) {
        None => println!("skipped: memory cannot be read here (not root); files and logs are searched"),
        Some(_) => {
            // What is freed is written over at once, what the engine keeps after a short idle time.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let regions = memory(&daemon).unwrap();
            println!(
                "{} bytes of memory searched",
                regions.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
            );
            for (region, bytes) in &regions {
                left.extend(
                    found(bytes, &shapes).into_iter().map(|shape| format!("{shape} in memory {region}")),
                );
            }
        }
    }
    daemon.signal(Signal::ABORT).unwrap();
    let status = daemon.wait().unwrap();
    assert!(!status.core_dumped(), "a crash leaves no core");
    let mut paths = Vec::new();
    files(&rig.path("state"), &mut paths);
    paths.push(rig.path("locusd.log"));
    assert!(paths.len() > 6, "{paths:?}");
    for path in &paths {
        let bytes = fs::read(path).unwrap();
        left.extend(found(&bytes, &shapes).into_iter().map(|shape| format!("{shape} in {}", path.display())));
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("LOCUS-IDENTITY"), "{} holds a key that opens journals", path.display());
    }
    assert!(left.is_empty(), "{left:#?}");
    // The hospital can read it: it was kept.
    let kept = rig.exported().unwrap();
    assert_eq!(kept.len(), 6);
    assert!(contains(kept[0]["record"]["request"]["sequence"].as_str().unwrap().as_bytes(), &canary));
    // Whoever has the whole box has no key that opens it.
    let box_key = rig.path("state/keys/device.key").display().to_string();
    let stolen = rig.ctl_output(&["journal", "export", "--identity", &box_key]).unwrap();
    assert!(!stolen.status.success() && stolen.stdout.is_empty());
}
