//! `locus-fuzz`: replays the corpus of every target and feeds it changes of it, from a seed.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use locus_fuzz::{TARGETS, drive, named, seeds};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Feeds parsers.
#[derive(Parser)]
struct Arguments {
    /// Cases of each target.
    #[arg(long, default_value_t = 20_000)]
    cases: u64,
    /// Only this target; can be given several times.
    #[arg(long)]
    target: Vec<String>,
    /// Seed of the changes.
    #[arg(long, default_value_t = 20_261_126)]
    seed: u64,
    /// Number of the first case.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Where cases that fail are left.
    #[arg(long, default_value = "target/fuzz")]
    artifacts: PathBuf,
    /// Only feed these files to the target.
    #[arg(long)]
    file: Vec<PathBuf>,
    /// Only write the first files of every corpus.
    #[arg(long)]
    seeds: bool,
    /// Only name the targets.
    #[arg(long)]
    list: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.list {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        return Ok(());
    }
    if arguments.seeds {
        return seeds::write();
    }
    drive::confine()?;
    let memory = drive::Memory {
        now: || ALLOCATOR.current_usage(),
        peak: || ALLOCATOR.peak_usage(),
        reset: || ALLOCATOR.reset_peak_usage(),
    };
    let find =
        |name: &String| named(name).with_context(|| format!("no target is called {name}; --list names them"));
    let chosen = arguments.target.iter().map(find).collect::<Result<Vec<_>>>()?;
    if !arguments.file.is_empty() {
        ensure!(!chosen.is_empty(), "got files and no target, expected --target too");
        for path in &arguments.file {
            let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
            chosen.iter().for_each(|target| (target.run)(&bytes));
        }
        return Ok(());
    }
    let chosen = if chosen.is_empty() { TARGETS.iter().collect() } else { chosen };
    let Arguments { cases, seed, from, artifacts, .. } = arguments;
    for target in chosen {
        let plan = drive::Plan { seed, from, cases, artifacts: artifacts.clone() };
        let done = drive::run(target, &plan, memory)?;
        println!(
            "{:<16} seed {seed}, {} files, {cases} cases, {:.0} cases/s, peak {:.2} MiB, slowest {:.1} ms, 0 crashes",
            target.name,
            done.files,
            cases as f64 / done.seconds,
            done.peak as f64 / f64::from(1 << 20),
            done.slowest.as_secs_f64() * 1e3,
        );
    }
    locus_fuzz::clean();
    Ok(())
}
