//! `cargo xtask demo`: the main job, end to end, with the real programs.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{onnxruntime, process};

const BUNDLE: &str = "models/variant-effect.locus";
const TRANSPORTS: [&str; 3] = ["mqtt", "serial", "http"];

#[derive(Deserialize)]
struct Drawn {
    seed: u64,
    variants: Vec<Fact>,
}

/// One real variant, quoted with its surroundings.
#[derive(Deserialize)]
struct Fact {
    variant: String,
    gene: String,
    label: bool,
    mc: String,
    aa: String,
    sequence: String,
    mutation: String,
    transcript_id: String,
    transcript: Value,
}

struct Tools {
    folder: PathBuf,
    library: Option<PathBuf>,
}

impl Tools {
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(process::root().join("target/debug").join(name));
        command.current_dir(process::root());
        if let Some(library) = &self.library {
            command.env("LOCUS_ONNXRUNTIME", library);
        }
        command
    }

    fn ctl(&self, arguments: &[&str]) -> Result<String> {
        process::output(
            self.command("locusctl").arg("--config").arg(self.folder.join("locusd.toml")).args(arguments),
        )
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// A started program that is stopped when the demo ends early.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts a program and waits for the line in which it says that it is ready.
    fn start(command: &mut Command) -> Result<Self> {
        let mut running = Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
        let mut line = String::new();
        BufReader::new(running.0.stdout.take().context("no output")?).read_line(&mut line)?;
        ensure!(line.starts_with("ready"), "got {line:?} instead of a ready line from {command:?}");
        Ok(running)
    }
}

pub(crate) fn run(folder: &Path) -> Result<()> {
    let library = onnxruntime::ensure()?;
    println!("building");
    process::run(process::cargo().args(["build", "--workspace", "--all-targets", "--quiet"]))?;
    let started = Instant::now();
    let folder = process::root().join(folder);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let tools = Tools { folder, library };
    let drawn: Drawn =
        serde_json::from_str(&fs::read_to_string(process::root().join("tests/fixtures/demo.json"))?)?;

    let pty = tools.path("serial-terminal");
    let _cable = Running::start(tools.command("locusctl").args(["cable", &tools.path("serial-box"), &pty]))?;
    prepare(&tools)?;
    let log = fs::File::create(tools.folder.join("locusd.log"))?;
    let mut daemon = Running::start(
        tools.command("locusd").arg("--config").arg(tools.folder.join("locusd.toml")).stderr(log),
    )?;
    println!(
        "{} real variants of the test split (seed {}), each asked over {}",
        drawn.variants.len(),
        drawn.seed,
        TRANSPORTS.join(", ")
    );
    let mut asked = Vec::new();
    for (i, fact) in drawn.variants.iter().enumerate() {
        asked.extend(ask(&tools, i, fact, &pty)?);
    }
    stop(&mut daemon)?;
    check_journal(&tools, &asked)?;
    println!(
        "demo: {} answers, journal verified and decrypted, {:.1} s",
        asked.len(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Keys, signature, flash.
fn prepare(tools: &Tools) -> Result<()> {
    let locus = |arguments: &[&str]| process::output(tools.command("locus").args(arguments));
    locus(&["keygen", "--out", &tools.path("publisher")])?;
    tools_keygen(tools)?;
    locus(&["bundle", "sign", "--key", &tools.path("publisher.key"), BUNDLE, &tools.path("signed.locus")])?;
    fs::write(
        tools.folder.join("locusd.toml"),
        format!(
            "site = \"demo\"\nbox = \"demo-box\"\nstate = {:?}\n\n[models]\ntrusted_keys = [{:?}]\n\n[journal]\nrecipients = [{:?}]\n\n\
             [mqtt]\nmode = \"embedded\"\nport = 0\ntls_port = 0\n\n[http]\nport = 0\n\n[[serial]]\npath = {:?}\nterminal = \"ward-3\"\n",
            tools.path("state"),
            tools.path("publisher.pub"),
            tools.path("hospital.pub"),
            tools.path("serial-box"),
        ),
    )?;
    tools.ctl(&["init"])?;
    println!("{}", tools.ctl(&["flash", &tools.path("signed.locus")])?.trim());
    Ok(())
}

fn tools_keygen(tools: &Tools) -> Result<String> {
    process::output(tools.command("locusctl").args(["keygen", "--out", &tools.path("hospital")]))
}

fn ask(tools: &Tools, index: usize, fact: &Fact, pty: &str) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for transport in TRANSPORTS {
        let id = format!("demo-{index}-{transport}");
        let request = json!({
            "id": id, "sequence": fact.sequence, "mutation": fact.mutation, "gene": fact.gene,
            "transcript_id": fact.transcript_id, "transcript": fact.transcript, "assembly": "GRCh38",
        });
        let file = tools.folder.join("request.json");
        fs::write(&file, request.to_string())?;
        let text = tools.ctl(&[
            "ask",
            "--transport",
            transport,
            "--serial-port",
            pty,
            "--json",
            "--request",
            &file.display().to_string(),
        ])?;
        let answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        ensure!(answer["receipt"]["index"].is_u64(), "got no receipt over {transport}: {text}");
        if transport == TRANSPORTS[0] {
            print_answer(fact, &answer);
        }
        ids.push(id);
    }
    Ok(ids)
}

fn print_answer(fact: &Fact, answer: &Value) {
    let truth = if fact.label { "pathogenic" } else { "benign" };
    println!(
        "{:<24} {:<6} {:<22} truth {truth:<10} answer {:<10} p={:<6} {}",
        fact.variant,
        fact.gene,
        if fact.aa == "." { &fact.mc } else { &fact.aa },
        answer["band"].as_str().unwrap_or("?"),
        answer["pathogenic_probability"].as_f64().map_or("-".into(), |p| format!("{p:.3}")),
        answer["consequence"].as_str().unwrap_or("?"),
    );
}

fn stop(daemon: &mut Running) -> Result<()> {
    process::run(Command::new("kill").args(["-TERM", &daemon.0.id().to_string()]))?;
    let status = daemon.0.wait()?;
    ensure!(status.success(), "locusd ended with {status}");
    Ok(())
}

fn check_journal(tools: &Tools, asked: &[String]) -> Result<()> {
    println!("{}", tools.ctl(&["journal", "verify"])?.trim());
    let exported =
        tools.ctl(&["journal", "export", "--identity", &tools.path("hospital.key"), "--format", "jsonl"])?;
    for id in asked {
        ensure!(exported.contains(&format!("\"{id}\"")), "answer {id} is not in the journal");
    }
    Ok(())
}
