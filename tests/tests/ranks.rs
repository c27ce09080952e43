//! Several processes of `locus` that train one model together.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use locus_tests::{free_port, program, root};
use serde_json::Value;

/// The smoke recipe, changed.
fn recipe(folder: &Path, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = fs::read_to_string(root().join("recipes/smoke.toml")).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let path = folder.join("recipe.toml");
    fs::write(&path, text).unwrap();
    path
}

fn locus(stage: &str, recipe: &Path, out: &Path) -> Command {
    let mut command = program("locus");
    command.arg(stage).arg(recipe).arg("--out").arg(out).stdout(Stdio::null()).stderr(Stdio::piped());
    // Two processes of as many threads as cores would only wait for each other.
    command.env("RAYON_NUM_THREADS", "1");
    command
}

fn of_ranks(mut command: Command, rank: usize, world: usize, port: u16) -> Command {
    command
        .env("RANK", rank.to_string())
        .env("WORLD_SIZE", world.to_string())
        .env("MASTER_ADDR", "127.0.0.1")
        .env("MASTER_PORT", port.to_string());
    command
}

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a stage over `world` processes to its end.
fn together(stage: &str, recipe: &Path, out: &Path, world: usize) {
    let port = free_port();
    let children: Vec<Child> =
        (0..world).map(|r| of_ranks(locus(stage, recipe, out), r, world, port).spawn().unwrap()).collect();
    for (rank, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "rank {rank}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn losses(out: &Path, stage: &str) -> Vec<f64> {
    let text = fs::read_to_string(out.join(format!("{stage}.jsonl"))).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["loss"].as_f64()).collect()
}

#[test]
fn two_ranks_have_the_losses_of_one_with_twice_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let recipe =
        recipe(folder.path(), &[("dropout = 0.1\n", "dropout = 0.0\n"), ("steps = 40", "steps = 60")]);
    for out in [&one, &two] {
        succeeds(&mut locus("prepare", &recipe, out));
    }
    for stage in ["pretrain", "finetune"] {
        succeeds(&mut locus(stage, &recipe, &one));
        together(stage, &recipe, &two, 2);
        let (one, two) = (losses(&one, stage), losses(&two, stage));
        assert!(one.len() >= 50 && one.len() == two.len());
        let largest = one.iter().zip(&two).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{stage}: largest difference of a loss in {} steps {largest:.2e}", one.len());
        assert!(largest < 1e-3, "{stage}: {largest}");
        assert!(one[one.len() - 1] < one[0], "{stage} learns");
    }
}

/// Pretrains over two ranks, does something to the second one at step 120 of 400, and gives what the first one said
/// and how long it went on.
fn interrupted(recipe: &Path, out: &Path, interrupt: impl Fn(&mut Child)) -> (String, Duration) {
    let port = free_port();
    let mut first = of_ranks(locus("pretrain", recipe, out), 0, 2, port).spawn().unwrap();
    let mut second = of_ranks(locus("pretrain", recipe, out), 1, 2, port).spawn().unwrap();
    let mut said = String::new();
    let mut since = None;
    for line in BufReader::new(first.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if since.is_none() && line.starts_with("pretrain 120/") {
            interrupt(&mut second);
            since = Some(Instant::now());
        }
        said.push_str(&line);
        said.push('\n');
    }
    assert!(!first.wait().unwrap().success(), "{said}");
    let took = since.expect("it came to step 120").elapsed();
    second.kill().unwrap();
    second.wait().unwrap();
    (said, took)
}

#[test]
fn the_others_end_where_a_rank_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let recipe = recipe(folder.path(), &[("steps = 40", "steps = 400")]);
    succeeds(&mut locus("prepare", &recipe, &out));
    let (said, took) = interrupted(&recipe, &out, |second| {
        succeeds(Command::new("kill").args(["-STOP", &second.id().to_string()]));
    });
    assert!(took < Duration::from_secs(30) && said.contains("rank 1: it was silent"), "{took:?}: {said}");
}

#[test]
fn the_others_end_where_a_rank_is_killed_and_all_go_on_from_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let recipe = recipe(folder.path(), &[("steps = 40", "steps = 400")]);
    succeeds(&mut locus("prepare", &recipe, &out));
    let (said, took) = interrupted(&recipe, &out, |second| second.kill().unwrap());
    assert!(took < Duration::from_secs(30), "{took:?}: {said}");
    assert!(said.contains("rank 1") && said.contains("checkpoint"), "{said}");
    assert!(out.join("pretrain.last/state.json").is_file());
    assert!(!out.join("pretrained/model.safetensors").exists());

    together("pretrain", &recipe, &out, 2);
    let text = fs::read_to_string(out.join("pretrain.jsonl")).unwrap();
    let steps: Vec<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, (1..=400).collect::<Vec<_>>());
    assert!(out.join("pretrained/model.safetensors").is_file());
}

#[test]
fn ranks_that_do_not_belong_together_are_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let same = recipe(folder.path(), &[]);
    succeeds(&mut locus("prepare", &same, &out));
    let other = folder.path().join("other.toml");
    let text = fs::read_to_string(&same).unwrap();
    fs::write(&other, text.replace("mask_share = 0.2", "mask_share = 0.3")).unwrap();
    let port = free_port();
    let mut first = of_ranks(locus("pretrain", &same, &out), 0, 2, port).spawn().unwrap();
    for (recipe, rank, world, word) in [(&other, 1, 2, "recipe"), (&same, 1, 3, "one of 3 ranks")] {
        let output = of_ranks(locus("pretrain", recipe, &out), rank, world, port).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains("refused") && error.contains(word), "{error}");
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let output = of_ranks(locus("calibrate", &same, &out), 0, 2, port).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("locus"), "{error}");
    let output = of_ranks(locus("prepare", &same, &out), 0, 2, port).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("2 ranks"), "{error}");
}
