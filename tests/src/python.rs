//! Python packages that tests compare with, in virtual environments of their own.

use std::{path::PathBuf, process::Command};

use crate::{peer, root};

/// The interpreter of an environment in the project's folder that has `packages`; `import` says whether they work.
/// `None`, with a line that says so, where it cannot be made.
pub fn python(name: &str, packages: &[&str], import: &str) -> Option<PathBuf> {
    let test = format!("Python with {}", packages.join(", "));
    let system = peer(&test, "python3")?;
    let folder = root().join(format!(".locus/python-{name}"));
    let program = folder.join("bin/python");
    let works = || {
        let check = Command::new(&program).args(["-c", import]).output();
        check.is_ok_and(|output| output.status.success())
    };
    if works() {
        return Some(program);
    }
    let mut environment = Command::new(system);
    environment.args(["-m", "venv"]).arg(&folder);
    let mut install = Command::new(&program);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    for step in [&mut environment, &mut install] {
        match step.output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                println!("skipped: {test}: {}", String::from_utf8_lossy(&output.stderr).trim());
                return None;
            }
            Err(error) => {
                println!("skipped: {test}: {error}");
                return None;
            }
        }
    }
    works().then_some(program)
}
