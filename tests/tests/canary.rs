//! A random sequence is asked about over every transport and then looked for: in every file of the box, in its logs
//! and in its memory, in every shape that it takes on the way.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use locus_edge::client::Terminal;
use locus_firmware_config::message::{Outcome, Request};
use locus_genome::{KmerTokenizer, dna::reverse_complement};
use locus_tests::{Daemon, Rig};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(20);
const CANARY: usize = 60;
const FLANK: usize = 120;
/// Terminals on HTTPS and on MQTT that ask at once.
const ASKERS: usize = 6;

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

/// What is left of the shapes in the daemon's memory, and how much was searched.
fn left_in_memory(regions: &[(String, Vec<u8>)], shapes: &[(String, Vec<u8>)]) -> (Vec<String>, usize) {
    let left = regions.iter().flat_map(|(region, bytes)| {
        found(bytes, shapes).into_iter().map(move |shape| format!("{shape} in memory {region}"))
    });
    (left.collect(), regions.iter().map(|(_, bytes)| bytes.len()).sum())
}

/// Everything that libraries could say, if they might.
const ALL_LOGS: &str = "trace,rumqttc=trace,rumqttc::state=trace,rumqttc::framed=trace,mqtt5=trace,\
                        mqtt5::broker::client_handler=trace,mqtt5_protocol=trace,hyper=trace,rustls=trace,axum=trace,ort=trace";

#[tokio::test(flavor = "multi_thread")]
async fn a_patients_sequence_is_found_nowhere_but_in_the_sealed_journal() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start_with(&[("LOCUS_LOG", ALL_LOGS)]).unwrap();
    let canary = random_bases(CANARY);
    let sequence = [random_bases(FLANK), canary.clone(), random_bases(FLANK)].concat();
    let at = FLANK + CANARY / 2;
    let alt = if sequence[at - 1] == b'A' { 'C' } else { 'A' };
    let length = sequence.len() as i64;
    // Repeated from memory for minutes, so it must be found: the search can find something.
    let planted = format!("planted-{}", hex::encode(random_bases(12)));
    let request = |id: &str| Request {
        id: Some(id.into()),
        sequence: Some(String::from_utf8(sequence.clone()).unwrap()),
        mutation: Some(format!("{}{at}{alt}", char::from(sequence[at - 1]))),
        subject: Some("canary-patient-7".into()),
        transcript_id: Some(planted.clone()),
        transcript: Some(locus_firmware_config::message::TranscriptSpec {
            strand: "+".into(),
            exons: vec![(1, length)],
            cds: vec![(1, length / 3 * 3, 0)],
        }),
        ..Request::default()
    };
    // All at once, so that the engine takes several rows in one run, in larger buffers than one of them needs.
    let mut terminals = vec![Terminal::Serial(Box::new(rig.serial().unwrap()))];
    for n in 0..ASKERS {
        terminals.push(Terminal::Http(daemon.http(&format!("http-{n}")).unwrap()));
        terminals.push(Terminal::Mqtt(Box::new(daemon.mqtt(&format!("mqtt-{n}")).await.unwrap())));
    }
    let asked: Vec<_> = terminals
        .into_iter()
        .enumerate()
        .map(|(n, mut terminal)| {
            let request = request(&format!("canary-{n}"));
            tokio::spawn(async move { (terminal.ask(&request, PATIENCE).await.unwrap(), terminal) })
        })
        .collect();
    let mut terminals = Vec::new();
    for asked in asked {
        let (outcome, terminal) = asked.await.unwrap();
        assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
        terminals.push(terminal);
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
    let records = terminals.len() * 2;
    for (n, terminal) in terminals.iter_mut().enumerate() {
        terminal.ask(&padding(n), PATIENCE).await.unwrap();
    }
    drop(terminals);
    let mut shapes = shapes(&canary);
    shapes.push(("the subject".into(), b"canary-patient-7".to_vec()));
    assert!(contains(&sequence, &shapes[0].1), "the search finds what is there");

    let mut left = Vec::new();
    if memory(&daemon).is_none() {
        println!("skipped: memory cannot be read here (not root); files and logs are searched");
    } else {
        // What is freed is written over at once, what the engine keeps once it is idle.
        let searching = Instant::now();
        loop {
            let regions = memory(&daemon).unwrap();
            let bytes;
            (left, bytes) = left_in_memory(&regions, &shapes);
            assert!(bytes > 1 << 20, "only {bytes} bytes of memory were searched");
            let control = [("planted".to_owned(), planted.clone().into_bytes())];
            assert!(!left_in_memory(&regions, &control).0.is_empty(), "the search misses what is there");
            if left.is_empty() || searching.elapsed() > PATIENCE {
                println!("{bytes} bytes of memory searched");
                break;
            }
        }
    }
    daemon.signal(Signal::ABORT).unwrap();
    let status = daemon.wait().unwrap();
    assert!(!status.core_dumped(), "a crash leaves no core");
    let control = rig.path("state/journal/planted");
    fs::write(&control, &canary).unwrap();
    let mut paths = Vec::new();
    files(&rig.path("state"), &mut paths);
    paths.push(rig.path("locusd.log"));
    assert!(paths.len() > 6, "{paths:?}");
    assert!(fs::read_to_string(rig.path("locusd.log")).unwrap().contains("DEBUG locus_edge"));
    let mut seen = false;
    for path in &paths {
        let bytes = fs::read(path).unwrap();
        let shapes = found(&bytes, &shapes);
        if *path == control {
            seen = shapes == ["forward text"];
            continue;
        }
        left.extend(shapes.into_iter().map(|shape| format!("{shape} in {}", path.display())));
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("LOCUS-IDENTITY"), "{} holds a key that opens journals", path.display());
    }
    assert!(seen, "the search misses the planted file");
    fs::remove_file(control).unwrap();
    assert!(left.is_empty(), "{left:#?}");
    // The hospital can read it: it was kept.
    let kept = rig.exported().unwrap();
    assert_eq!(kept.len(), records);
    assert!(contains(kept[0]["record"]["request"]["sequence"].as_str().unwrap().as_bytes(), &canary));
    // Whoever has the whole box has no key that opens it.
    let box_key = rig.path("state/keys/device.key").display().to_string();
    let stolen = rig.ctl_output(&["journal", "export", "--identity", &box_key]).unwrap();
    assert!(!stolen.status.success() && stolen.stdout.is_empty());
}
