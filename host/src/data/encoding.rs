//! What rows were encoded with: part of a dataset's identity, and `window.json` beside a checkpoint.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result, recipe::WindowPlan, stage::read_json};

/// Rises whenever `locus-genome` gives other token ids, track codes or features for the same variant, so that
/// datasets and checkpoints of before are not used with it.
pub const ENCODING_VERSION: u32 = 2;

/// How a variant becomes a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoding {
    /// [`ENCODING_VERSION`] of the program that encoded.
    pub version: u32,
    /// SHA-256 of the feature names in their order, one a line.
    pub features_sha256: String,
    /// Windows and tokens.
    pub window: WindowPlan,
}

impl Encoding {
    /// What this program does under a recipe's `[window]`.
    pub fn of(window: &WindowPlan) -> Self {
        let names = locus_genome::feature_names().join("\n");
        Self {
            version: ENCODING_VERSION,
            features_sha256: hex::encode(Sha256::digest(names)),
            window: window.clone(),
        }
    }

    /// Reads the `window.json` of a checkpoint.
    ///
    /// # Errors
    /// No such file, or an encoding that this program does not make.
    pub fn read(path: &Path) -> Result<Self> {
        let stored: Self = read_json(path)?;
        let own = Self::of(&stored.window);
        if stored == own {
            return Ok(stored);
        }
        let shown = |e: &Self| format!("encoding {} with features {:.12}", e.version, e.features_sha256);
        Err(Error::Data {
            what: path.display().to_string(),
            got: shown(&stored),
            expected: format!("{}; train the checkpoint again with this program", shown(&own)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::write_json;

    #[test]
    fn a_checkpoint_of_another_encoding_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("window.json");
        let window = WindowPlan { k: 3, stride: 1, kmers: 61, buckets: vec![32, 64], crop_flank: [6, 14] };
        let own = Encoding::of(&window);
        write_json(&path, &own).unwrap();
        assert_eq!(Encoding::read(&path).unwrap(), own);
        for other in [
            Encoding { version: own.version + 1, ..own.clone() },
            Encoding { features_sha256: "0".repeat(64), ..own.clone() },
        ] {
            write_json(&path, &other).unwrap();
            assert!(Encoding::read(&path).unwrap_err().to_string().contains("train the checkpoint again"));
        }
    }
}
