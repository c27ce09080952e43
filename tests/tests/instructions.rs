//! The hot paths take no more instructions than bench/instructions.toml keeps.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Output;

use locus_tests::{peer, program, root};

fn counted(arguments: &[&str]) -> (Output, String) {
    let output =
        program("locus-bench").current_dir(root()).arg("instructions").args(arguments).output().unwrap();
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    println!("{said}");
    (output, said)
}

#[test]
fn no_hot_path_takes_more_instructions_than_are_kept() {
    if peer("no_hot_path_takes_more_instructions_than_are_kept", "valgrind").is_some() {
        assert!(counted(&[]).0.status.success());
    }
}

#[test]
fn a_path_that_takes_more_is_named_with_what_to_do() {
    if peer("a_path_that_takes_more_is_named_with_what_to_do", "valgrind").is_none() {
        return;
    }
    let kept = std::fs::read_to_string(root().join("bench/instructions.toml")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let less = |line: &str| match line.strip_prefix("read-frames = ") {
        Some(count) => format!("read-frames = {}\n", count.parse::<u64>().unwrap() / 2),
        None => format!("{line}\n"),
    };
    std::fs::write(file.path(), kept.lines().map(less).collect::<String>()).unwrap();
    let (output, said) = counted(&["--only", "read-frames", "--file", &file.path().display().to_string()]);
    if said.contains("skipped: ") {
        return;
    }
    assert!(
        !output.status.success() && said.contains("read-frames: got ") && said.contains("--write"),
        "{said}"
    );
}
