//! `cargo xtask trace`: requirements, hazards and the tests that stand for them; nothing without its counterpart.

mod links;
mod orphans;
mod source;
mod tables;

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{generated, process};

const REQUIREMENTS: &str = "docs/assurance/requirements.toml";
const HAZARDS: &str = "docs/assurance/hazards.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirements {
    requirement: Vec<Requirement>,
}

/// What Locus promises.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Requirement {
    id: String,
    text: String,
    /// Where the promise is made.
    from: String,
    tests: Vec<String>,
    /// What the tests do not show.
    #[serde(default)]
    open: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hazards {
    hazard: Vec<Hazard>,
}

/// What may harm somebody.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hazard {
    id: String,
    title: String,
    /// How it comes about.
    sequence: String,
    harm: String,
    before: Estimate,
    #[serde(default)]
    control: Vec<Control>,
    after: Estimate,
    residual: String,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
struct Estimate {
    severity: Severity,
    probability: Probability,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Negligible,
    Minor,
    Serious,
    Critical,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "lowercase")]
enum Probability {
    Improbable,
    Remote,
    Occasional,
    Probable,
}

/// In the order of ISO 14971, 7.1.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Design,
    Protection,
    Information,
}

/// What is done against a hazard.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    kind: Kind,
    what: String,
    /// Files that do it.
    code: Vec<String>,
    requirements: Vec<String>,
    /// Those of the requirements' tests that show it; left out: all of them.
    #[serde(default)]
    tests: Vec<String>,
}

/// Writes the tables, or only checks that they are right; finds whatever has no counterpart.
pub(crate) fn run(check: bool) -> Result<()> {
    let root = &process::root();
    let requirements: Requirements = read(&root.join(REQUIREMENTS))?;
    let hazards: Hazards = read(&root.join(HAZARDS))?;
    let tests = source::tests(root)?;
    let suites = suites(root)?;
    let mut wrong = orphans::find(&requirements.requirement, &hazards.hazard, &tests, &suites, |path| {
        root.join(path).is_file()
    });
    wrong.extend(orphans::named_in(
        "docs/threat-model.md",
        &fs::read_to_string(root.join("docs/threat-model.md"))?,
        &tests,
    ));
    wrong.extend(links::broken(root)?);
    if !wrong.is_empty() {
        for orphan in &wrong {
            eprintln!("{orphan}");
        }
        bail!(
            "{} without a counterpart; {REQUIREMENTS} and {HAZARDS} bind requirements and hazards to tests",
            wrong.len()
        );
    }
    let table = tables::requirements(&requirements.requirement, &hazards.hazard, &tests, &suites);
    generated::write(&root.join("docs/requirements.md"), "trace", &table, check)?;
    let table = tables::hazards(&hazards.hazard, &requirements.requirement, &tests);
    generated::write(&root.join("docs/risk.md"), "trace", &table, check)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
}

/// The suites over the real programs.
fn suites(root: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root.join("tests/tests"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // One file, or a folder of them.
        if path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").is_file() {
            found.insert(name);
        }
    }
    Ok(found)
}
