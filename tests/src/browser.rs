//! The browser that the pages are tried in: the system's Chromium, driven by Playwright, with axe-core for accessibility.

use std::{path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::{peer, python, root};

const PLAYWRIGHT: &str = "playwright==1.65.2";
/// For the pictures of the documentation.
const PILLOW: &str = "pillow==13.0.0";
const AXE: &str = "4.14.1";

/// What it takes to drive a browser.
#[derive(Debug)]
pub struct Browser {
    python: PathBuf,
    /// Without it accessibility is not looked at, which a line says.
    axe: Option<PathBuf>,
    chromium: PathBuf,
}

impl Browser {
    /// `None`, with a line that says why, where something is missing and cannot be installed.
    pub fn find(test: &str) -> Option<Self> {
        let chromium = peer(test, "chromium")?;
        let python = python("page", &[PLAYWRIGHT, PILLOW], "import playwright.sync_api\n")?;
        Some(Self { python, axe: axe(test), chromium })
    }

    /// A script of `tests/page`, which reads what it is `given` from a file, as a command.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn script(&self, name: &str, mut given: Value, folder: &std::path::Path) -> std::io::Result<Command> {
        given["chromium"] = json!(self.chromium);
        given["axe"] = json!(self.axe);
        given["words"] = json!(root().join("edge/page"));
        let file = folder.join(format!("{name}.json"));
        std::fs::write(&file, given.to_string())?;
        let mut command = Command::new(&self.python);
        command.arg("-B").arg(root().join("tests/page").join(name).with_extension("py")).arg(file);
        Ok(command)
    }
}

/// axe-core, from npm into the project's folder.
fn axe(test: &str) -> Option<PathBuf> {
    let folder = root().join(format!(".locus/axe-core-{AXE}"));
    let script = folder.join("node_modules/axe-core/axe.min.js");
    if script.is_file() {
        return Some(script);
    }
    let npm = peer(test, "npm")?;
    let made = std::fs::create_dir_all(&folder).and_then(|()| {
        let quiet =
            ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--prefix"];
        Command::new(npm).args(quiet).arg(&folder).arg(format!("axe-core@{AXE}")).output()
    });
    let why = match made {
        Ok(output) if output.status.success() && script.is_file() => return Some(script),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    println!("skipped: {test} needs axe-core, which cannot be installed: {why}");
    None
}
