//! The journal alone: records a second that are durable, and what each costs the processor.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use locus_edge::{
    clock::SystemClock,
    journal::{Entry, Journal, JournalConfig, RequestHash, Rotation, Witnesses, verify},
    keys::{Identity, IndexKey, load_or_create_device_key},
    vfs::OsVfs,
};

use crate::figures::{Figure, Machine, Results};

/// Bytes of a record before it is sealed.
const RECORD: usize = 1_024;
/// Records in one commit: as many as the daemon takes at most, and four times that.
const GROUPS: [usize; 2] = [256, 1_024];
/// Bytes that the journal adds to each.
const SEALED: usize = 204;
/// Groups before the clock counts.
const WARM_UP: usize = 20;

/// User and system time of this process so far, in microseconds.
fn cpu_us() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/schedstat")?;
    let ns: u64 = text.split(' ').next().context("no times in /proc/self/schedstat")?.parse()?;
    Ok(ns / 1_000)
}

struct Run {
    per_second: f64,
    /// The same bytes, written and synced to a plain file in turn with the journal's.
    bare: f64,
    cpu_us: f64,
}

/// A journal with keys of its own, which are in a folder.
pub(crate) fn fresh(folder: &Path) -> Result<JournalConfig> {
    let vfs = Arc::new(OsVfs);
    Ok(JournalConfig {
        device_key: load_or_create_device_key(&*vfs, &folder.join("device.key"))?,
        vfs,
        clock: Arc::new(SystemClock::new()),
        index_key: IndexKey::generate()?,
        recipients: vec![Identity::generate()?.recipient()],
        rotation: Rotation::default(),
        remember: 100_000,
        accept_damage: false,
        reserve_bytes: 0,
        synchronized: None,
    })
}

/// Appends groups of records, all durable, in a folder of this disk.
fn once(folder: &Path, groups: usize, group_of: usize, subjects: bool) -> Result<Run> {
    let config = fresh(folder)?;
    let (vfs, index_key) = (OsVfs, config.index_key.clone());
    let device = config.device_key.verifying_key();
    let dir = folder.join("journal");
    let (mut journal, _) = Journal::open(&dir, config)?;
    let entry = |n: usize| Entry {
        plaintext: zeroize::Zeroizing::new(vec![b' '; RECORD]),
        request: Some(RequestHash {
            id: index_key.request("bed-3", &n.to_string()),
            body: index_key.body("bed-3", &n.to_string(), &n.to_le_bytes()),
        }),
        subject: subjects.then(|| format!("sample-{}", n / 4)),
        bundle: [7; 32],
        repeat_of: None,
        terminal: Some(index_key.terminal("bed-3")),
    };
    let (mut taken_s, mut bare_s, mut cpu) = (0.0, 0.0, 0);
    let mut plain = File::create(folder.join("plain"))?;
    let bytes = vec![0x5a; group_of * (RECORD + SEALED)];
    for group in 0..WARM_UP + groups {
        // What is measured is the journal's: the entries are made beside the clock.
        let entries: Vec<Entry> = (0..group_of).map(|n| entry(group * group_of + n)).collect();
        let (started, before) = (Instant::now(), cpu_us()?);
        let receipts = journal.append(&entries)?;
        if group >= WARM_UP {
            taken_s += started.elapsed().as_secs_f64();
            cpu += cpu_us()? - before;
            let started = Instant::now();
            plain.write_all(&bytes)?;
            plain.sync_data()?;
            bare_s += started.elapsed().as_secs_f64();
        }
        ensure!(receipts.len() == group_of, "a record is missing");
    }
    journal.close()?;
    let report = verify(&vfs, &dir, &device, &Witnesses::default())?;
    ensure!(report.complete() && report.records as usize == (WARM_UP + groups) * group_of, "{report:?}");
    let records = (groups * group_of) as f64;
    Ok(Run { per_second: records / taken_s, bare: records / bare_s, cpu_us: cpu as f64 / records })
}

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct JournalArguments {
    /// Journals of each kind
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Commits of a journal
    #[arg(long, default_value_t = 60)]
    groups: usize,
    /// Folder on the disk that is measured
    #[arg(long, default_value = "target")]
    folder: PathBuf,
    /// File to write
    #[arg(long, default_value = "bench/results/journal.json")]
    out: PathBuf,
}

impl JournalArguments {
    pub(crate) fn run(&self) -> Result<()> {
        run(self.rounds, self.groups, &self.folder, &self.out)
    }
}

/// Measures `rounds` times, each in a new journal, and writes the results.
fn run(rounds: usize, groups: usize, folder: &Path, out: &Path) -> Result<()> {
    let (date, machine) = (time::OffsetDateTime::now_utc().date().to_string(), Machine::this());
    let mut figures = Vec::new();
    let kinds = GROUPS.iter().flat_map(|group_of| [(*group_of, false), (*group_of, true)]);
    for (group_of, subjects) in kinds {
        let name = format!(
            "{group_of} a commit, {}",
            if subjects { "four records a subject" } else { "without a subject" }
        );
        let mut runs = Vec::new();
        for _ in 0..rounds {
            let place = tempfile::tempdir_in(folder)?;
            runs.push(once(place.path(), groups, group_of, subjects)?);
        }
        for (what, unit, of, bar) in [
            ("durable", "records/s", (|run: &Run| run.per_second) as fn(&Run) -> f64, "bar 20,000/s"),
            ("the bare disk's", "records/s", |run: &Run| run.bare, ""),
            ("CPU a record", "µs", |run: &Run| run.cpu_us, "bar 20 µs"),
        ] {
            let mut values: Vec<f64> = runs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            figures.push(Figure {
                name: format!("{name}, {what}"),
                value: values[values.len() / 2],
                unit,
                spread: format!("{:.1} to {:.1} over {rounds} journals", values[0], values[values.len() - 1]),
                command: format!("cargo run -p locus-bench -- journal --rounds {rounds} --groups {groups}"),
                seed: None,
                date: date.clone(),
                machine: machine.clone(),
                beside: (!bar.is_empty()).then(|| bar.into()),
            });
        }
    }
    let about = format!(
        "The journal alone, on this disk: records of {RECORD} bytes, sealed, chained, in the Merkle tree, so many in a commit that is \
         signed and durable (`fdatasync`) before the next begins. {groups} commits a journal after {WARM_UP} that do not count; each \
         journal is verified afterwards. With subjects there is a second `fdatasync` for their keys in each commit. CPU is the \
         writing thread's own time, of user and system. The bare disk's: the same bytes appended to a plain file and synced, in turn \
         with the journal's. The disk and both cores were shared with other work, which the spread shows."
    );
    Results { title: "Journal", about, figures }.write(out)
}
