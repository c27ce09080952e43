//! `cargo xtask soup`: software of others that Locus uses directly, from `cargo metadata` and what was written down about each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{
    generated,
    metadata::{Metadata, Package},
    process,
};

const ENTRIES: &str = "docs/assurance/soup.toml";
/// Crates that run in a box; what they use in production does too.
const OF_THE_BOX: [&str; 6] =
    ["locus-console", "locus-edge", "locus-engine", "locus-firmware-config", "locus-genome", "locus-measure"];
/// Crates that train and ship models.
const OF_THE_WORKBENCH: [&str; 5] =
    ["locus-host", "locus-export", "locus-onnx", "locus-calibration", "locus-mapped"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    library: Vec<Entry>,
    other: Vec<Other>,
}

/// What was written down about a library.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    purpose: String,
    /// What Locus asks of it.
    needs: String,
    /// Hazards that it takes part in, by id; none where it runs at nobody's bedside.
    #[serde(default)]
    hazards: Vec<String>,
    #[serde(default)]
    anomalies: Option<String>,
    verified: String,
}

/// Software of others that is no crate.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Other {
    name: String,
    version: String,
    supplier: String,
    purpose: String,
    needs: String,
    hazards: Vec<String>,
    anomalies: String,
    verified: String,
}

/// A library that a crate of this workspace names.
#[derive(Debug, PartialEq, Eq)]
struct Direct {
    versions: BTreeSet<String>,
    license: String,
    repository: String,
    /// Where it runs: in the box, in the workbench, or in tests and tools alone.
    place: &'static str,
}

/// Writes the list, or only checks that it is right.
pub(crate) fn run(check: bool) -> Result<()> {
    let root = process::root();
    let metadata = Metadata::read("x86_64-unknown-linux-gnu", true)?;
    let direct = direct(&metadata);
    let text = fs::read_to_string(root.join(ENTRIES)).with_context(|| format!("cannot read {ENTRIES}"))?;
    let written: Written = toml::from_str(&text).with_context(|| format!("cannot read {ENTRIES}"))?;
    let hazards = fs::read_to_string(root.join("docs/assurance/hazards.toml"))?;
    let wrong = unmatched(&direct, &written.library, &hazards);
    if !wrong.is_empty() {
        bail!("{}; {ENTRIES} has an entry for every direct dependency and no other", wrong.join("; "));
    }
    generated::write(&root.join("docs/soup.md"), "soup", &table(&direct, &written), check)?;
    generated::write(&root.join("docs/licences.md"), "soup", &licences(&metadata), check)
}

/// Every library that is built into something here, by its licence.
fn licences(metadata: &Metadata) -> String {
    let members: BTreeSet<&str> = metadata.workspace_members.iter().map(String::as_str).collect();
    let used: BTreeSet<&str> = metadata.resolve.nodes.iter().map(|node| node.id.as_str()).collect();
    let mut by_licence: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in &metadata.packages {
        if used.contains(package.id.as_str()) && !members.contains(package.id.as_str()) {
            // An older way to write "or".
            let licence = package.license.as_deref().unwrap_or("see its source").replace('/', " OR ");
            let named = format!("{} {}", package.name, package.version);
            by_licence.entry(licence).or_default().insert(named);
        }
    }
    let mut text = String::from("| licence | crates |\n|---|---|\n");
    for (licence, crates) in by_licence {
        let _ = writeln!(text, "| {licence} | {} |", crates.into_iter().collect::<Vec<_>>().join(", "));
    }
    text
}

/// Every library that a member of the workspace depends on, with where it runs.
fn direct(metadata: &Metadata) -> BTreeMap<String, Direct> {
    let packages: BTreeMap<&str, &Package> = metadata.packages.iter().map(|p| (p.id.as_str(), p)).collect();
    let members: BTreeSet<&str> = metadata.workspace_members.iter().map(String::as_str).collect();
    let mut found: BTreeMap<String, Direct> = BTreeMap::new();
    for node in metadata.resolve.nodes.iter().filter(|node| members.contains(node.id.as_str())) {
        let Some(user) = packages.get(node.id.as_str()) else { continue };
        for dependency in node.deps.iter().filter(|d| !members.contains(d.pkg.as_str())) {
            let Some(package) = packages.get(dependency.pkg.as_str()) else { continue };
            let runs = dependency.is_linked();
            let place = match user.name.as_str() {
                name if runs && OF_THE_BOX.contains(&name) => "box",
                name if runs && OF_THE_WORKBENCH.contains(&name) => "workbench",
                _ => "tests and tools",
            };
            let direct = found.entry(package.name.clone()).or_insert_with(|| Direct {
                versions: BTreeSet::new(),
                license: package.license.clone().unwrap_or_default(),
                repository: package.repository.clone().unwrap_or_default(),
                place,
            });
            direct.versions.insert(package.version.clone());
            // "box" before "tests and tools" before "workbench" by letters; by weight it is box, workbench, tests.
            if place == "box" || (place == "workbench" && direct.place != "box") {
                direct.place = place;
            }
        }
    }
    found
}

/// Dependencies without an entry, entries without a dependency, entries that are there twice or name hazards that are not.
fn unmatched(direct: &BTreeMap<String, Direct>, entries: &[Entry], hazards: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    for entry in entries {
        if !names.insert(entry.name.as_str()) {
            wrong.push(format!("{} is there twice", entry.name));
        }
        if !direct.contains_key(&entry.name) {
            wrong.push(format!("{} has an entry and is no direct dependency", entry.name));
        }
        let unknown = entry.hazards.iter().filter(|id| !hazards.contains(&format!("id = \"{id}\"\n")));
        wrong.extend(unknown.map(|id| format!("{} names {id}, which is no hazard", entry.name)));
    }
    let missing = direct.keys().filter(|name| !names.contains(name.as_str()));
    wrong.extend(missing.map(|name| format!("{name} is a direct dependency and has no entry")));
    wrong
}

fn table(direct: &BTreeMap<String, Direct>, written: &Written) -> String {
    let entries: BTreeMap<&str, &Entry> = written.library.iter().map(|e| (e.name.as_str(), e)).collect();
    let mut text = String::from(
        "| software | version | supplier | what for | what is asked of it | hazards | known anomalies considered | verified by |\n|---|---|---|---|---|---|---|---|\n",
    );
    for o in &written.other {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            o.name,
            o.version,
            o.supplier,
            o.purpose,
            o.needs,
            o.hazards.join(", "),
            o.anomalies,
            o.verified
        );
    }
    for (place, title) in [
        ("box", "In the box"),
        ("workbench", "In the workbench"),
        ("tests and tools", "In tests and tools alone"),
    ] {
        let _ = write!(
            text,
            "\n### {title}\n\n| crate | version | licence | what for | what is asked of it | hazards | known anomalies considered | verified by |\n|---|---|---|---|---|---|---|---|\n"
        );
        for (name, d) in direct.iter().filter(|(_, d)| d.place == place) {
            let Some(e) = entries.get(name.as_str()) else { continue };
            let shown =
                if d.repository.is_empty() { name.clone() } else { format!("[{name}]({})", d.repository) };
            let versions = d.versions.iter().cloned().collect::<Vec<_>>().join(", ");
            let _ = writeln!(
                text,
                "| {shown} | {versions} | {} | {} | {} | {} | {} | {} |",
                d.license,
                e.purpose,
                e.needs,
                e.hazards.join(", "),
                e.anomalies.as_deref().unwrap_or("–"),
                e.verified
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Node;

    fn metadata() -> Metadata {
        serde_json::from_value(serde_json::json!({
            "packages": [
                { "id": "edge", "name": "locus-edge", "version": "0.1.0" },
                { "id": "host", "name": "locus-host", "version": "0.1.0" },
                { "id": "axum", "name": "axum", "version": "0.8.1", "license": "MIT", "repository": "https://a" },
                { "id": "toml", "name": "toml", "version": "1.2.0", "license": "MIT" },
                { "id": "deep", "name": "deep", "version": "1.0.0" },
            ],
            "workspace_members": ["edge", "host"],
            "resolve": { "nodes": [
                { "id": "edge", "deps": [
                    { "pkg": "axum", "dep_kinds": [{ "kind": null }] },
                    { "pkg": "toml", "dep_kinds": [{ "kind": "dev" }] },
                    { "pkg": "host", "dep_kinds": [{ "kind": null }] },
                ] },
                { "id": "host", "deps": [{ "pkg": "toml", "dep_kinds": [{ "kind": null }] }] },
                { "id": "axum", "deps": [{ "pkg": "deep", "dep_kinds": [{ "kind": null }] }] },
            ] },
        }))
        .unwrap()
    }

    fn entry(name: &str) -> Entry {
        Entry { name: name.into(), ..Entry::default() }
    }

    #[test]
    fn direct_dependencies_are_found_where_they_run_and_those_of_others_are_not() {
        let found = direct(&metadata());
        let places: Vec<(&str, &str)> = found.iter().map(|(name, d)| (name.as_str(), d.place)).collect();
        assert_eq!(places, [("axum", "box"), ("toml", "workbench")]);
        assert_eq!(found["axum"].versions, BTreeSet::from(["0.8.1".to_owned()]));
    }

    #[test]
    fn every_library_is_listed_by_its_licence_and_members_are_not() {
        let page = licences(&metadata_with_nodes());
        assert!(page.contains("| MIT | axum 0.8.1, toml 1.2.0 |"), "{page}");
        assert!(page.contains("| see its source | deep 1.0.0 |") && !page.contains("locus-edge"), "{page}");
    }

    /// As cargo gives it: a node for each package.
    fn metadata_with_nodes() -> Metadata {
        let mut metadata = metadata();
        for id in ["toml", "deep"] {
            metadata.resolve.nodes.push(Node { id: id.into(), deps: Vec::new() });
        }
        metadata
    }

    #[test]
    fn a_dependency_without_an_entry_and_an_entry_without_a_dependency_are_found() {
        let direct = direct(&metadata());
        let hazards = "id = \"H-1\"\n";
        assert_eq!(unmatched(&direct, &[entry("axum"), entry("toml")], hazards), [""; 0]);
        let wrong = unmatched(&direct, &[entry("axum"), entry("axum"), entry("deep")], hazards);
        assert_eq!(
            wrong,
            [
                "axum is there twice",
                "deep has an entry and is no direct dependency",
                "toml is a direct dependency and has no entry"
            ]
        );
        let named = Entry { hazards: vec!["H-1".into(), "H-10".into()], ..entry("axum") };
        assert_eq!(
            unmatched(&direct, &[named, entry("toml")], hazards),
            ["axum names H-10, which is no hazard"]
        );
    }
}
