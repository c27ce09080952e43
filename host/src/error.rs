//! What can go wrong at the workbench.

use std::{
    io,
    path::{Path, PathBuf},
};

/// An error of the workbench.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the reference or of variants.
    #[error(transparent)]
    Read(#[from] locus_genome::ReadError),
    /// A variant or reference that cannot be encoded.
    #[error(transparent)]
    Encode(#[from] locus_genome::EncodeError),
    /// A tokenizer that cannot be.
    #[error(transparent)]
    Tokenizer(#[from] locus_genome::TokenizerError),
    /// A bundle, an engine or a score.
    #[error(transparent)]
    Engine(#[from] locus_engine::Error),
    /// A graph, a key or a bundle that cannot be written.
    #[error(transparent)]
    Export(#[from] locus_export::ExportError),
    /// The model or a training step.
    #[error("model: {0}")]
    Model(#[from] candle_core::Error),
    /// A loss or gradient that is not a number any more.
    #[error(
        "{stage}: step {step}: got {what}, expected a finite one{}; the checkpoint before it is kept; lower the learning rate, or look at these records",
        batch_of(records)
    )]
    Diverged {
        /// The stage.
        stage: &'static str,
        /// The step, counted from 1.
        step: u64,
        /// What was got.
        what: String,
        /// Records of the batch, where they are known.
        records: Vec<String>,
    },
    /// Several processes that cannot train together.
    #[error("ranks: got {got}, expected {expected}")]
    Ranks {
        /// What was found.
        got: String,
        /// What is needed.
        expected: String,
    },
    /// A device that is not there.
    #[error("device: got {got}, expected {expected}")]
    Device {
        /// What was found.
        got: String,
        /// What is needed.
        expected: String,
    },
    /// Another rank that ended or is not one of these.
    #[error(
        "rank {rank}: {what}; every rank stops here; start all of them again to go on from the last checkpoint"
    )]
    Peer {
        /// The rank.
        rank: usize,
        /// What is known of it.
        what: String,
    },
    /// A recipe that asks for what cannot be.
    #[error("recipe: {key}: got {got}, expected {expected}")]
    Recipe {
        /// The key.
        key: String,
        /// Its value.
        got: String,
        /// What it may be.
        expected: String,
    },
    /// A stored dataset that this program did not write.
    #[error("{}: {reason}; run locus prepare again", path.display())]
    Dataset {
        /// The file.
        path: PathBuf,
        /// What was got and expected.
        reason: String,
    },
    /// A stage whose input another stage has to make first.
    #[error("{stage}: {} is missing; run locus {needs} first", path.display())]
    Missing {
        /// The stage that was asked for.
        stage: &'static str,
        /// What it needs.
        path: PathBuf,
        /// The command that makes it.
        needs: &'static str,
    },
    /// A stage that starts before one that it rests on is done.
    #[error(
        "{stage}: {needs} is not done for this recipe and these files ({reason}); run locus {needs}, or locus run for the whole chain"
    )]
    Undone {
        /// The stage that was asked for.
        stage: &'static str,
        /// The one that it rests on.
        needs: &'static str,
        /// What is missing or another one.
        reason: String,
    },
    /// An output folder in which another program works.
    #[error("{}: another locus works in this folder; wait until it ends, or give another one with --out", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// Data without what a figure needs.
    #[error("{what}: got {got}, expected {expected}")]
    Data {
        /// What was looked at.
        what: String,
        /// What was found.
        got: String,
        /// What is needed.
        expected: String,
    },
    /// A picture that cannot be drawn.
    #[error("picture {title:?}: {reason}")]
    Picture {
        /// Its title.
        title: String,
        /// Why.
        reason: String,
    },
    /// A check that failed, so that nothing was written.
    #[error("{check}: got {got:.6}, expected {expected}; nothing was written")]
    Refused {
        /// The check.
        check: String,
        /// The figure.
        got: f64,
        /// What it may be.
        expected: String,
    },
}

/// Result of the workbench.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The first records of a batch, in words.
fn batch_of(records: &[String]) -> String {
    const SHOWN: usize = 8;
    if records.is_empty() {
        return String::new();
    }
    let more = records.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(", on a batch of {}{more}", records[..records.len().min(SHOWN)].join(", "))
}

/// Adds the path to an I/O error.
pub(crate) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}
