//! The licences of every crate in the programs, from the crates themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{
    metadata::{Metadata, Node, Package},
    process,
};

/// How files with a licence begin.
const FILES: [&str; 7] = ["license", "licence", "copying", "copyright", "notice", "unlicense", "authors"];

impl Metadata {
    /// Everything that is linked into the programs of a crate of the workspace.
    fn linked(&self, root: &str) -> Result<Vec<&Package>> {
        let packages: BTreeMap<&str, &Package> = self.packages.iter().map(|p| (p.id.as_str(), p)).collect();
        let nodes: BTreeMap<&str, &Node> = self.resolve.nodes.iter().map(|n| (n.id.as_str(), n)).collect();
        let start =
            self.packages.iter().find(|p| p.name == root).context("no such crate in the workspace")?;
        let (mut open, mut seen) = (vec![start.id.as_str()], BTreeSet::new());
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                let deps = nodes.get(id).map(|node| &node.deps).into_iter().flatten();
                let linked = deps.filter(|d| d.is_linked());
                open.extend(linked.map(|d| d.pkg.as_str()));
            }
        }
        let mut found: Vec<&Package> = seen.into_iter().filter_map(|id| packages.get(id).copied()).collect();
        found.sort_by_key(|p| (&p.name, &p.version));
        Ok(found)
    }
}

impl Package {
    fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }

    /// The texts that come with it.
    fn texts(&self) -> Vec<String> {
        let named = self.license_file.iter().map(|file| self.folder().join(file));
        let entries = fs::read_dir(self.folder()).into_iter().flatten().flatten().map(|entry| entry.path());
        let found = entries.filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            path.is_file() && FILES.iter().any(|beginning| name.starts_with(beginning))
        });
        let mut files: Vec<PathBuf> = named.chain(found).collect();
        files.sort();
        files.dedup();
        let read = files.iter().filter_map(|file| fs::read(file).ok());
        read.map(|bytes| String::from_utf8_lossy(&bytes).replace("\r\n", "\n").trim().to_owned()).collect()
    }

    /// What it is under where it brings no text: one that its licence allows to choose, as this project has it.
    fn standard(&self) -> Result<String> {
        let licence = self.license.as_deref().unwrap_or_default();
        let root = process::root();
        if licence.contains("Apache-2.0") {
            return Ok(fs::read_to_string(root.join("LICENSE-APACHE"))?.trim().to_owned());
        }
        ensure!(
            licence.contains("MIT"),
            "got no licence file in {} ({licence}), expected one, or a licence that allows MIT or Apache-2.0",
            self.title()
        );
        let text = fs::read_to_string(root.join("LICENSE-MIT"))?;
        let body = text.split_once("Permission is hereby granted").context("LICENSE-MIT is another text")?.1;
        let authors = match self.authors.is_empty() {
            true => format!("the authors of {}", self.name),
            false => self.authors.join(", "),
        };
        Ok(format!(
            "MIT License\n\nCopyright (c) {authors}\n\nPermission is hereby granted{}",
            body.trim_end()
        ))
    }
}

/// The text, and how many crates it is about.
pub(super) fn of_box(triple: &str) -> Result<(String, usize)> {
    let metadata = Metadata::read(triple, false)?;
    let crates: Vec<&Package> =
        metadata.linked("locus-edge")?.into_iter().filter(|package| package.source.is_some()).collect();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut text = String::from(
        "Crates in locusd and locusctl, each with the licence that its manifest names. The texts follow, each once, with the\n\
         crates that bring it. Where a crate brings none, the text of a licence that it may be used under stands in.\n\
         The standard library of Rust is under MIT OR Apache-2.0.\n\n",
    );
    for package in &crates {
        let licence = package.license.as_deref().unwrap_or("see its text");
        writeln!(text, "{}: {licence}", package.title())?;
        let own = package.texts();
        let all = if own.is_empty() { vec![package.standard()?] } else { own };
        for one in all {
            texts.entry(one).or_default().push(package.title());
        }
    }
    let mut texts: Vec<(String, Vec<String>)> = texts.into_iter().collect();
    texts.sort_by(|a, b| a.1.cmp(&b.1));
    for (licence, titles) in texts {
        write!(text, "\n{}\n{}\n\n{licence}\n", "-".repeat(80), titles.join(", "))?;
    }
    Ok((text, crates.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_and_what_only_builds_or_tests_is_not() {
        let metadata = Metadata::read("x86_64-unknown-linux-gnu", false).unwrap();
        let names: Vec<&str> =
            metadata.linked("locus-edge").unwrap().iter().map(|package| package.name.as_str()).collect();
        for linked in ["rustls", "ring", "locus-engine", "tract-onnx"] {
            assert!(names.contains(&linked), "{linked}");
        }
        for other in ["proptest", "tempfile", "cc", "candle-core", "locus-host"] {
            assert!(!names.contains(&other), "{other}");
        }
    }
}
