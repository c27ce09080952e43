//! What the end-to-end suites share: where the data and the binaries are, and a whole box to try them on.

mod browser;
mod demo;
pub mod load;
pub mod malicious;
mod models;
mod mosquitto;
mod node;
mod python;
mod rig;
mod vitals;

use std::path::{Path, PathBuf};

pub use browser::Browser;
pub use demo::{Fact, Facts, facts};
pub use models::{reweighted, variation};
pub use mosquitto::{Mosquitto, free_port};
pub use node::node;
pub use python::python;
pub use rig::{Daemon, Rig, SITE, example, onnxruntime, program};
pub use vitals::{Vitals, processor_time, vitals};

/// The project's root folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the project's folder")
}

/// Folder of the real data: `LOCUS_DATA`, else `../shared/data` beside the project. `None`, with a line
/// that says so, where it is not there: the test is then skipped.
pub fn data(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("LOCUS_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    if folder.join("panel/clinvar.GRCh38.vcf.gz").is_file() {
        return Some(folder);
    }
    println!("skipped: {test} needs the real data in {}, which is not there", folder.display());
    None
}

/// A program of another project that a test talks to; `None`, with a line that says so, where it is not installed.
pub fn peer(test: &str, name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: {test} needs {name}, which is not installed; `cargo xtask peers` installs it");
    }
    found
}
