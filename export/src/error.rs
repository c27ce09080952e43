use std::{io, path::PathBuf};

use locus_firmware_config::manifest::MAX_SIGNATURES;

/// Why something could not be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The operating system.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A tensor that the checkpoint lacks, or that has another type or shape.
    #[error("tensor {name}: got {got}, expected {expected}")]
    Tensor {
        /// Its name.
        name: String,
        /// What there is.
        got: String,
        /// What the configuration says.
        expected: String,
    },
    /// The checkpoint is no safetensors file.
    #[error("the checkpoint cannot be read: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// An activation that the calibration table lacks.
    #[error("the calibration table has no range for {name}; run `locus calibrate` on this checkpoint")]
    Range {
        /// Its name.
        name: String,
    },
    /// Numbers that cannot be quantised.
    #[error("{name}: {source}")]
    Quantise {
        /// The tensor or activation.
        name: String,
        /// The cause.
        source: locus_calibration::QuantError,
    },
    /// A configuration that this exporter does not know.
    #[error("got {field} = {got}, expected {expected}")]
    Config {
        /// The field.
        field: &'static str,
        /// What it holds.
        got: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// A manifest that contradicts itself.
    #[error(transparent)]
    Manifest(#[from] locus_firmware_config::manifest::ManifestError),
    /// A trust document that contradicts itself.
    #[error(transparent)]
    Trust(#[from] locus_firmware_config::trust::TrustFileError),
    /// A bundle that nobody should sign.
    #[error("the bundle is outside its accuracy contract: {reason}")]
    Contract {
        /// What is exceeded.
        reason: String,
    },
    /// A bundle that is none.
    #[error("the bundle cannot be read: {reason}")]
    Bundle {
        /// What is wrong.
        reason: &'static str,
    },
    /// One signature more than a box reads.
    #[error("the file has {MAX_SIGNATURES} signatures, expected fewer to add one; sign it as it was made")]
    TooManySignatures,
    /// A key file that is none.
    #[error("{path}: got no {expected} in PEM; make one with `locus keygen`")]
    Key {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// No randomness.
    #[error("the operating system gave no random bytes: {0}")]
    Random(getrandom::Error),
}
