//! Two results side by side: what became slower, and whether that is more than chance.
//!
//! The unit is the repeat: requests of one repeat share its daemon, caches and neighbours, and are no independent
//! observations (Kalibera & Jones, "Rigorous Benchmarking in Reasonable Time", ISMM 2013). Whether a ratio is more than
//! chance says an exact permutation test over the repeats (Fisher 1935; Ernst, "Permutation Methods", Statistical Science
//! 19(4), 2004): of all ways to deal the repeats of both files into two groups, the share whose mean logarithms lie at
//! least as far apart as the files'. Logarithms, because slowness is a ratio.

use std::{fmt, path::PathBuf};

use anyhow::{Result, bail, ensure};
use locus_measure::{Environment, FEW, Kind, Results, SHARES, Series, median};

/// Two groups that are dealt like this by chance so rarely are marked.
const LEVEL: f64 = 0.05;
/// Fewer repeats in a file cannot lie further apart than chance at that level: of 3 and 3 there are 20 ways.
const REPEATS: usize = 4;
/// Most repeats that are dealt in every way.
const MOST_REPEATS: usize = 10;
/// Rates of open loops that differ by more are other loads.
const SAME_RATE: f64 = 0.02;

/// What to compare.
#[derive(clap::Args)]
pub(crate) struct CompareArguments {
    /// Results before
    before: PathBuf,
    /// Results after
    after: PathBuf,
    /// Fails where something is slower by more than this ratio and by more than chance; with fewer than four repeats in a
    /// file, by the ratio alone
    #[arg(long)]
    fail_above: Option<f64>,
}

/// One number of one series in both files.
struct Compared {
    name: String,
    unit: &'static str,
    before: Vec<f64>,
    after: Vec<f64>,
    /// After by before, or before by after where more is better: above 1 is worse.
    worse: f64,
    /// How often chance deals the repeats so far apart; `None` where they are too few or too many.
    chance: Option<f64>,
    /// Whether it rests on fewer than ten requests.
    few: bool,
}

impl CompareArguments {
    /// Prints the comparison; an error where it is worse than `--fail-above`.
    pub(crate) fn run(&self) -> Result<()> {
        let (before, after) = (Results::read(&self.before)?, Results::read(&self.after)?);
        if let Some(most) = self.fail_above {
            ensure!(most >= 1.0, "got --fail-above {most}, expected a ratio of 1 or more");
        }
        for difference in differences(&before.environment, &after.environment) {
            println!("other conditions: {difference}");
        }
        let (compared, notes) = compare(&before, &after);
        notes.iter().for_each(|note| println!("left out: {note}"));
        ensure!(
            !compared.is_empty(),
            "got two files without a series of one name, expected results of the same benchmark"
        );
        let tested = compared.iter().filter(|one| one.chance.is_some()).count();
        println!(
            "{} numbers, {tested} of them tested: about {:.0} would be marked by chance alone (p ≤ {LEVEL}). What else changed on the \
             machine between the two is in the ratios too: measure in turn, before, after, before, after.\n",
            compared.len(),
            tested as f64 * LEVEL
        );
        println!("{:<58} {:>30} {:>30} {:>7} {:>7}", "", "before", "after", "worse", "p");
        compared.iter().for_each(|one| println!("{one}"));
        let Some(most) = self.fail_above else { return Ok(()) };
        let failed: Vec<_> =
            compared.iter().filter(|one| one.fails(most)).map(|one| one.name.clone()).collect();
        if failed.is_empty() { Ok(()) } else { bail!("worse by more than {most}: {}", failed.join("; ")) }
    }
}

impl Compared {
    fn of(
        name: String,
        unit: &'static str,
        before: Vec<f64>,
        after: Vec<f64>,
        more_is_better: bool,
        few: bool,
    ) -> Self {
        let ratio = median(&after) / median(&before);
        let worse = if more_is_better { 1.0 / ratio } else { ratio };
        let chance = chance(&before, &after);
        Self { name, unit, before, after, worse, chance, few }
    }

    fn marked(&self) -> bool {
        self.chance.is_some_and(|chance| chance <= LEVEL)
    }

    /// Worse by more than a ratio, and not by chance.
    fn fails(&self, most: f64) -> bool {
        !self.few && self.worse > most && (self.marked() || self.chance.is_none())
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |values: &[f64]| {
            let ends =
                values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), v| (v.min(l), v.max(m)));
            let digits = if median(values) < 0.1 { 6 } else { 3 };
            format!("{:.digits$} {} ({:.digits$} to {:.digits$})", median(values), self.unit, ends.0, ends.1)
        };
        let chance = self.chance.map_or_else(|| "–".to_owned(), |chance| format!("{chance:.3}"));
        let mark = match (self.marked(), self.worse > 1.0) {
            (true, true) => "  worse",
            (true, false) => "  better",
            (false, _) => "",
        };
        let few = if self.few { "  (rests on fewer than ten requests)" } else { "" };
        let (before, after) = (shown(&self.before), shown(&self.after));
        write!(f, "{:<58} {before:>30} {after:>30} {:>7.3} {chance:>7}{mark}{few}", self.name, self.worse)
    }
}

/// Every number that both files have, and what cannot be compared.
fn compare(before: &Results, after: &Results) -> (Vec<Compared>, Vec<String>) {
    let (mut compared, mut notes) = (Vec::new(), Vec::new());
    for series in &before.series {
        let Some(other) = after.series.iter().find(|other| other.name == series.name) else {
            notes.push(format!("{} is in the first file alone", series.name));
            continue;
        };
        match same_load(series, other) {
            Ok(()) => compared.extend(numbers(series, other)),
            Err(why) => notes.push(format!("{}: {why}", series.name)),
        }
    }
    let only =
        after.series.iter().filter(|other| !before.series.iter().any(|series| series.name == other.name));
    notes.extend(only.map(|other| format!("{} is in the second file alone", other.name)));
    (compared, notes)
}

fn same_load(before: &Series, after: &Series) -> Result<(), String> {
    match (before.kind, after.kind) {
        (Kind::Open { rate: a, .. }, Kind::Open { rate: b, .. }) if (a / b).ln().abs() > SAME_RATE => {
            Err(format!(
                "{a:.1} and {b:.1} requests a second are other loads; measure again with --rates-of the first file"
            ))
        }
        (Kind::Open { .. }, Kind::Open { .. }) => Ok(()),
        (a, b) if a == b && before.batch == after.batch => Ok(()),
        (a, b) => Err(format!("{a:?} of {} and {b:?} of {} are other loads", before.batch, after.batch)),
    }
}

fn numbers(before: &Series, after: &Series) -> Vec<Compared> {
    let least = before.latencies().count().min(after.latencies().count());
    let mut all: Vec<_> = SHARES
        .into_iter()
        .map(|(name, share)| {
            let few = ((least as f64 * (1.0 - share)).round() as u64) < FEW;
            let (a, b) = (before.percentiles_ms(share), after.percentiles_ms(share));
            Compared::of(format!("{}, {name}", before.name), "ms", a, b, false, few)
        })
        .collect();
    if matches!(before.kind, Kind::Closed { .. }) {
        let (a, b) = (before.rates(), after.rates());
        all.push(Compared::of(format!("{}, rate", before.name), "/s", a, b, true, least < FEW));
    }
    all.retain(|one| one.worse.is_finite());
    all
}

/// The exact permutation test over two groups, on the distance of their mean logarithms, to both sides.
fn chance(before: &[f64], after: &[f64]) -> Option<f64> {
    let fit =
        |values: &[f64]| (REPEATS..=MOST_REPEATS).contains(&values.len()) && values.iter().all(|v| *v > 0.0);
    if !fit(before) || !fit(after) {
        return None;
    }
    let all: Vec<f64> = before.iter().chain(after).map(|value| value.ln()).collect();
    let (n, size) = (all.len(), before.len());
    let whole: f64 = all.iter().sum();
    let apart = |first: f64| (first / size as f64 - (whole - first) / (n - size) as f64).abs();
    // What differs by rounding alone is as far apart.
    let seen = apart(all[..size].iter().sum()) - 1e-12;
    let (mut ways, mut as_far) = (0_u64, 0_u64);
    for dealt in (0_u32..1 << n).filter(|dealt| dealt.count_ones() as usize == size) {
        let first = (0..n).filter(|at| dealt >> at & 1 == 1).map(|at| all[at]).sum();
        ways += 1;
        as_far += u64::from(apart(first) >= seen);
    }
    Some(as_far as f64 / ways as f64)
}

/// What is not the same on both machines, or in one's state.
fn differences(before: &Environment, after: &Environment) -> Vec<String> {
    let governors = |e: &Environment| {
        let mut all: Vec<_> = e.clocks.iter().filter_map(|core| core.governor.clone()).collect();
        all.sort();
        all.dedup();
        all.join(", ")
    };
    let most = |e: &Environment| e.clocks.iter().filter_map(|core| core.max_khz).max();
    let told = |e: &Environment| {
        [
            ("machine", format!("{:?}", e.machine)),
            ("board", format!("{:?}", e.board)),
            ("cpu", format!("{:?}", e.cpu)),
            ("architecture", e.architecture.clone()),
            ("cores", e.cores.to_string()),
            ("hypervisor", e.hypervisor.to_string()),
            ("memory", format!("{:?}", e.memory_bytes)),
            ("kernel", format!("{:?}", e.kernel)),
            ("governor", governors(e)),
            ("highest clock in kHz", format!("{:?}", most(e))),
            ("boost", format!("{:?}", e.boost)),
            ("power mode", format!("{:?}", e.power_mode)),
            ("jetson_clocks", format!("{:?}", e.jetson_clocks)),
        ]
    };
    let mut all: Vec<String> = told(before)
        .into_iter()
        .zip(told(after))
        .filter(|((_, a), (_, b))| a != b)
        .map(|((what, a), (_, b))| format!("{what} is {a} before and {b} after"))
        .collect();
    let names: std::collections::BTreeSet<_> = before.versions.keys().chain(after.versions.keys()).collect();
    for name in names {
        let (a, b) = (before.versions.get(name), after.versions.get(name));
        if a != b {
            let shown = |version: Option<&String>| version.cloned().unwrap_or_else(|| "not told".into());
            all.push(format!("{name} is {} before and {} after", shown(a), shown(b)));
        }
    }
    for (when, e) in [("before", before), ("after", after)] {
        if let Some([load, ..]) = e.load_average.filter(|[load, ..]| *load > 0.25 * e.cores as f64) {
            all.push(format!(
                "others ran when {when} was measured: a load average of {load} on {} cores",
                e.cores
            ));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use locus_measure::{Loaded, SCHEMA, Stage};

    use super::*;

    /// Repeats whose every answer takes so many milliseconds.
    fn results(kind: Kind, repeats_ms: &[u64]) -> Results {
        let repeat = |ms: &u64| {
            let mut loaded =
                Loaded { seconds: 1.0, answers_per_second: vec![1_000 / ms], ..Loaded::default() };
            (0..20_000).for_each(|_| loaded.latencies.record(Duration::from_millis(*ms)));
            loaded
        };
        let series = Series {
            name: "s".into(),
            stage: Stage::EndToEnd,
            kind,
            batch: 1,
            warm_up_s: 0.0,
            repeats: repeats_ms.iter().map(repeat).collect(),
        };
        Results {
            schema: SCHEMA,
            title: "t".into(),
            about: String::new(),
            command: String::new(),
            seed: 1,
            date: String::new(),
            revision: None,
            environment: Environment::default(),
            series: vec![series],
        }
    }

    const CLOSED: Kind = Kind::Closed { clients: 1 };

    #[test]
    fn chance_is_the_share_of_deals_that_lie_as_far_apart() {
        // Of 70 ways to deal 8 repeats, the files' own and its mirror are the furthest.
        assert_eq!(chance(&[1.0, 1.1, 1.2, 1.3], &[2.0, 2.1, 2.2, 2.3]), Some(2.0 / 70.0));
        assert_eq!(chance(&[1.0; 5], &[1.0; 5]), Some(1.0));
        let mixed = chance(&[1.0, 3.0, 1.1, 3.1], &[1.05, 2.9, 1.2, 3.2]).unwrap();
        assert!(mixed > 0.5, "{mixed}");
        // Too few repeats say nothing, however far apart.
        assert_eq!(chance(&[1.0; 3], &[9.0; 3]), None);
    }

    #[test]
    fn what_is_slower_beyond_its_spread_is_marked_and_fails_and_the_same_passes() {
        let (fast, slow) = (results(CLOSED, &[10, 11, 10, 11]), results(CLOSED, &[20, 21, 20, 21]));
        let (same, notes) = compare(&fast, &fast);
        assert!(notes.is_empty() && same.len() == 5);
        assert!(same.iter().all(|one| !one.marked() && !one.fails(1.0) && one.worse == 1.0));
        let (slower, _) = compare(&fast, &slow);
        assert!(slower.iter().all(|one| one.marked() && one.fails(1.10) && (1.8..2.2).contains(&one.worse)));
        // A rate of half is as bad as a time of twice; and the other way round nothing fails.
        assert!(slower.iter().any(|one| one.unit == "/s"));
        assert!(compare(&slow, &fast).0.iter().all(|one| one.marked() && !one.fails(1.10)));
        // Slower by less than the repeats of one file differ.
        let (noisy, _) = compare(&results(CLOSED, &[10, 30, 12, 28]), &results(CLOSED, &[14, 33, 13, 30]));
        assert!(noisy.iter().all(|one| !one.marked() && !one.fails(1.0)));
        // One repeat each: there is nothing to test, and the ratio decides.
        let (once, _) = compare(&results(CLOSED, &[10]), &results(CLOSED, &[20]));
        assert!(once.iter().all(|one| one.chance.is_none() && one.fails(1.10)));
    }

    #[test]
    fn other_loads_are_not_compared() {
        let open = |rate| results(Kind::Open { rate, clients: 4 }, &[10; 4]);
        let (compared, notes) = compare(&open(100.0), &open(110.0));
        assert!(compared.is_empty() && notes[0].contains("--rates-of"), "{notes:?}");
        assert_eq!(compare(&open(100.0), &open(101.0)).0.len(), 4);
        assert!(compare(&open(100.0), &results(CLOSED, &[1])).0.is_empty());
        let mut renamed = results(CLOSED, &[1]);
        renamed.series[0].name = "other".into();
        assert_eq!(compare(&results(CLOSED, &[1]), &renamed).1.len(), 2);
    }

    #[test]
    fn other_conditions_are_named() {
        let before = Environment { cores: 8, ..Environment::default() };
        let mut after = Environment {
            power_mode: Some("15W".into()),
            load_average: Some([6.0, 1.0, 1.0]),
            ..before.clone()
        };
        after.versions.insert("runtime".into(), "1.25".into());
        let said = differences(&before, &after).join("\n");
        for expected in
            ["power mode is None", "15W", "runtime is not told before and 1.25", "load average of 6"]
        {
            assert!(said.contains(expected), "{said}");
        }
        assert!(differences(&before, &before).is_empty());
    }
}
