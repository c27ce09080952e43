//! The bill of materials of the box, in CycloneDX.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{source_date, tools};
use crate::process;

/// What the tool is told to name its files; it writes one beside each manifest of the workspace.
const NAME: &str = "locus-bill-of-materials";

/// The bill of materials of the crate with the programs.
pub(super) fn of_box(triple: &str) -> Result<String> {
    let tool = tools::CYCLONEDX.get()?;
    let root = process::root();
    let written = process::output(
        std::process::Command::new(tool)
            .current_dir(&root)
            .env("SOURCE_DATE_EPOCH", source_date())
            .args([
                "cyclonedx",
                "--manifest-path",
                "edge/Cargo.toml",
                "--format",
                "json",
                "--spec-version",
                "1.5",
            ])
            .args(["--no-build-deps", "--override-filename", NAME, "--target", triple]),
    );
    let text = fs::read_to_string(root.join("edge").join(format!("{NAME}.json")));
    for manifest in manifests()? {
        let _ = fs::remove_file(root.join(manifest).with_file_name(format!("{NAME}.json")));
    }
    written?;
    let mut bill: Value = serde_json::from_str(&text.context("cargo-cyclonedx wrote nothing for edge")?)?;
    // Drawn anew each time, and for nothing: two packages of one state are the same bytes.
    bill.as_object_mut().context("the bill of materials is no object")?.remove("serialNumber");
    forget_folder(&mut bill, &format!("{}/", root.display()));
    Ok(serde_json::to_string_pretty(&bill)? + "\n")
}

/// Where this machine has the sources is nobody's business.
fn forget_folder(value: &mut Value, folder: &str) {
    match value {
        Value::String(text) if text.contains(folder) => *text = text.replace(folder, ""),
        Value::Array(values) => values.iter_mut().for_each(|value| forget_folder(value, folder)),
        Value::Object(fields) => fields.values_mut().for_each(|value| forget_folder(value, folder)),
        _ => {}
    }
}

/// The manifests of the workspace, as paths from the root.
fn manifests() -> Result<Vec<String>> {
    let mut git = std::process::Command::new("git");
    let listed = process::output(git.current_dir(process::root()).args(["ls-files", "*Cargo.toml"]))?;
    Ok(listed.lines().map(str::to_owned).collect())
}
