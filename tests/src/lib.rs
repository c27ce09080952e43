//! What the end-to-end suites share: where the data and the binaries are.

use std::path::{Path, PathBuf};

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
