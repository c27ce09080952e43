//! JavaScript packages that tests compare with, in folders of their own.

use std::{fs, path::PathBuf, process::Command};

use crate::root;

/// A folder of the project's with exactly these `packages` (`name@version`) installed, and `node`. `None`, with a line that
/// says why, where it cannot be made.
pub fn node(name: &str, packages: &[&str]) -> Option<(PathBuf, PathBuf)> {
    let test = format!("Node with {}", packages.join(", "));
    let is_there =
        |program| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if let Some(missing) = ["node", "npm"].into_iter().find(|program| !is_there(*program)) {
        println!("skipped: {test}: {missing} is not installed");
        return None;
    }
    let program = PathBuf::from("node");
    let folder = root().join(format!(".locus/node-{name}"));
    let (mark, wanted) = (folder.join("installed"), packages.join("\n"));
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Some((program, folder));
    }
    let make = || {
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let arguments = [
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--save-exact",
            "--prefix",
        ];
        let output = Command::new("npm")
            .args(arguments)
            .arg(&folder)
            .args(packages)
            .output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "));
        }
        // Last, so that half an installation is never taken for one.
        fs::write(&mark, &wanted).map_err(|error| error.to_string())
    };
    match make() {
        Ok(()) => Some((program, folder)),
        Err(why) => {
            println!("skipped: {test}: {why}");
            None
        }
    }
}
