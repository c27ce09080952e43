//! Python packages that tests compare with, in virtual environments of their own.

use std::{path::PathBuf, process::Command};

use crate::{peer, root};

/// Ends well where exactly these versions are installed.
const VERSIONS: &str = "
import sys, importlib.metadata as m
got = [p.split('==')[0] + '==' + m.version(p.split('==')[0]) for p in sys.argv[1:]]
sys.exit(None if got == sys.argv[1:] else f'got {got}, expected {sys.argv[1:]}')
";

/// The interpreter of an environment in the project's folder with exactly these `packages` (`name==version`);
/// `import` is a statement that says whether they work. `None`, with a line that says why, where it cannot be made.
pub fn python(name: &str, packages: &[&str], import: &str) -> Option<PathBuf> {
    let test = format!("Python with {}", packages.join(", "));
    let system = peer(&test, "python3")?;
    let folder = root().join(format!(".locus/python-{name}"));
    let program = folder.join("bin/python");
    let succeeds = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let works =
        || succeeds(Command::new(&program).args(["-c", &format!("{import}{VERSIONS}")]).args(packages));
    let make = || {
        succeeds(Command::new(system).args(["-m", "venv"]).arg(&folder))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        succeeds(Command::new(&program).args(pip).args(packages))?;
        works()
    };
    match works().or_else(|_| make()) {
        Ok(()) => Some(program),
        Err(why) => {
            println!("skipped: {test}: {why}");
            None
        }
    }
}
