//! The engine alone, and what it reads.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use locus_edge::pipeline;
use locus_engine::{Bundle, LoadOptions, Scorer, Trust};
use locus_firmware_config::{message::Request, profile::DeviceProfile};
use locus_genome::encode::EncodedVariant;
use locus_tests::{facts, onnxruntime};

/// A model that is loaded, and variants as it reads them.
pub(crate) struct Bare {
    pub(crate) scorer: Scorer,
    pub(crate) encoded: Vec<EncodedVariant>,
}

impl Bare {
    /// Opens a bundle, with so many threads inside operators (0: as a box has them), and encodes so many of the drawn
    /// variants, in turn.
    pub(crate) fn open(model: &Path, rows: usize, intra_threads: usize) -> Result<Self> {
        let scorer = Scorer::open(&bundle(model)?, &unbounded()?, &options(intra_threads))?;
        let facts = facts().variants;
        let encoded = facts.iter().cycle().take(rows).map(|fact| {
            pipeline::encode(scorer.encoder(), None, &fact.request("x"))
                .map_err(|fault| anyhow::anyhow!(fault.message))
        });
        let encoded = encoded.collect::<Result<_>>()?;
        Ok(Self { scorer, encoded })
    }
}

/// A bundle of this repository, signed or not.
pub(crate) fn bundle(model: &Path) -> Result<Bundle> {
    Ok(Bundle::open(model, &Trust::AllowUnsigned)?)
}

/// The profile of this machine with as many rows in a run as the model takes: a box's bound would split larger batches
/// without a word.
pub(crate) fn unbounded() -> Result<DeviceProfile> {
    Ok(DeviceProfile { max_batch: 1024, ..DeviceProfile::named("cpu-x86")? })
}

/// How a box loads it, with the library that tests have.
pub(crate) fn options(intra_threads: usize) -> LoadOptions {
    LoadOptions { onnxruntime: onnxruntime(), intra_threads, ..LoadOptions::default() }
}

/// Questions about the drawn variants.
pub(crate) fn requests() -> Arc<[Request]> {
    facts().variants.iter().map(|fact| fact.request("x")).collect()
}
