//! Feeds a target: first its corpus as it is, then cases made of it.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    panic,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    Target, corpus,
    mutate::{Draw, case},
};

/// Longest time of a case.
const SLOW: Duration = Duration::from_secs(2);
/// After so long a case is taken for one that never ends.
const HUNG: Duration = Duration::from_secs(60);
/// How much address space the process gets: what asks for more ends here and not on the machine.
const ADDRESS_SPACE: u64 = 8 << 30;

/// What the allocator counts, in bytes.
#[derive(Clone, Copy)]
pub struct Memory {
    /// Now.
    pub now: fn() -> usize,
    /// The most since the last reset.
    pub peak: fn() -> usize,
    /// Begins to count anew.
    pub reset: fn(),
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seed of the changes.
    pub seed: u64,
    /// Number of the first case.
    pub from: u64,
    /// How many cases.
    pub cases: u64,
    /// Where a case that fails is left.
    pub artifacts: PathBuf,
}

/// What was run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Done {
    /// Files of the corpus.
    pub files: usize,
    /// Cases made of them.
    pub cases: u64,
    /// Seconds of all.
    pub seconds: f64,
    /// Most memory that a case took beyond its own bytes.
    pub peak: usize,
    /// Longest time of a case.
    pub slowest: Duration,
}

/// Keeps the address space of this process small.
///
/// # Errors
/// The system refuses.
pub fn confine() -> Result<()> {
    let limit = rustix::process::Rlimit { current: Some(ADDRESS_SPACE), maximum: Some(ADDRESS_SPACE) };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).context("the address space")
}

/// Runs a target over its corpus and over cases made of it.
///
/// # Errors
/// A panic, a case that takes too much memory or time; it is left among the artifacts. A case that never ends or brings
/// the process down is named by the file `<target>.case`: its number.
pub fn run(target: &Target, plan: &Plan, memory: Memory) -> Result<Done> {
    let folder = corpus::folder(target.name);
    let named = corpus::read(&folder).with_context(|| format!("the corpus {}", folder.display()))?;
    if named.is_empty() {
        bail!("the corpus {} is empty; `locus-fuzz --seeds` writes its first files", folder.display());
    }
    fs::create_dir_all(&plan.artifacts)?;
    let progress = fs::File::create(plan.artifacts.join(format!("{}.case", target.name)))?;
    let (at, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let watch = watch(target.name, plan.seed, Arc::clone(&at), Arc::clone(&over));
    let begun = Instant::now();
    let mut done =
        Done { files: named.len(), cases: plan.cases, seconds: 0.0, peak: 0, slowest: Duration::ZERO };
    // The first case also pays for what is made once.
    (target.run)(&named[0].1);
    for (name, bytes) in &named {
        one(target, bytes, memory, &mut done)
            .or_else(|error| bail!("{} {}: {error}", target.name, folder.join(name).display()))?;
    }
    let files: Vec<Vec<u8>> = named.into_iter().map(|(_, bytes)| bytes).collect();
    for number in plan.from..plan.from + plan.cases {
        at.store(number, Ordering::Relaxed);
        progress.write_all_at(format!("{:>20} {number:>20}\n", plan.seed).as_bytes(), 0)?;
        let bytes = case(&files, target.words, target.longest, &mut Draw::of(plan.seed, number));
        if let Err(error) = one(target, &bytes, memory, &mut done) {
            let path = plan.artifacts.join(format!("{}-{}-{number}", target.name, plan.seed));
            fs::write(&path, &bytes)?;
            bail!(
                "{}: seed {}, case {number}, {} bytes, left in {}: {error}",
                target.name,
                plan.seed,
                bytes.len(),
                path.display()
            );
        }
    }
    done.seconds = begun.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    let _ = watch.join();
    Ok(done)
}

fn one(target: &Target, bytes: &[u8], memory: Memory, done: &mut Done) -> Result<()> {
    let before = (memory.now)();
    (memory.reset)();
    let begun = Instant::now();
    if panic::catch_unwind(|| (target.run)(bytes)).is_err() {
        bail!("it panicked, as said above");
    }
    let mut took = begun.elapsed();
    let peak = (memory.peak)().saturating_sub(before);
    if peak > target.memory {
        bail!("it took {peak} bytes of memory, expected at most {}", target.memory);
    }
    // On a machine that does something else too, the best of three counts.
    for _ in 0..2 {
        if took > SLOW {
            let begun = Instant::now();
            (target.run)(bytes);
            took = took.min(begun.elapsed());
        }
    }
    if took > SLOW {
        bail!("it took {took:?}, expected at most {SLOW:?}");
    }
    done.peak = done.peak.max(peak);
    done.slowest = done.slowest.max(took);
    Ok(())
}

/// Ends the process where one case takes for ever.
fn watch(
    target: &'static str,
    seed: u64,
    at: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let (mut last, mut since) = (u64::MAX, Instant::now());
        while !over.load(Ordering::Relaxed) {
            let now = at.load(Ordering::Relaxed);
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > HUNG {
                eprintln!("{target}: seed {seed}, case {now} does not end within {HUNG:?}");
                std::process::exit(1);
            }
            thread::sleep(Duration::from_millis(20));
        }
    })
}
