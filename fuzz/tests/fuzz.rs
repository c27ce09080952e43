//! Every target over its corpus and changes of it: nothing panics, hangs or takes more memory than it may.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use locus_fuzz::{TARGETS, corpus};

/// A program of its own for each target: one that is brought down says which.
fn fed(cases: u64, threads: usize) {
    let (next, artifacts) = (AtomicUsize::new(0), Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz"));
    let one = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_locus-fuzz"));
        command.args(["--target", name, "--cases", &cases.to_string(), "--artifacts"]).arg(&artifacts);
        let output = command.output().unwrap();
        print!("{}", String::from_utf8_lossy(&output.stdout));
        let number = std::fs::read_to_string(artifacts.join(format!("{name}.case"))).unwrap_or_default();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (!output.status.success())
            .then(|| format!("{name}: {}, seed and last case {}\n{said}", output.status, number.trim()))
    };
    let failed: Vec<String> = thread::scope(|scope| {
        let worker = || {
            let mut failed = Vec::new();
            while let Some(target) = TARGETS.get(next.fetch_add(1, Ordering::Relaxed)) {
                failed.extend(one(target.name));
            }
            failed
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn twenty_thousand_cases_of_every_parser_break_nothing() {
    fed(20_000, 2);
}

#[test]
#[ignore = "ten million cases of each parser: hours; `cargo xtask fuzz --cases 10000000`"]
fn ten_million_cases_of_every_parser_break_nothing() {
    fed(10_000_000, thread::available_parallelism().map_or(2, Into::into));
}

#[test]
fn every_target_has_a_corpus_of_few_small_files_and_no_folder_has_no_target() {
    for target in TARGETS {
        let files = corpus::read(&corpus::folder(target.name)).unwrap();
        assert!((1..=48).contains(&files.len()), "{}: {} files", target.name, files.len());
        assert!(files.iter().all(|(_, bytes)| bytes.len() <= target.longest), "{}", target.name);
    }
    for entry in std::fs::read_dir(corpus::folder("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(locus_fuzz::named(&name).is_some(), "{name}");
    }
}
