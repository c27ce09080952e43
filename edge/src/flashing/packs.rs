//! Puts reference packs into their slots and into the running pipeline.

use std::path::Path;

use locus_engine::bundle::Pack;
use locus_firmware_config::pack::PACK_SLOTS;

use super::Flasher;
use crate::{
    pipeline::{Genome, Pipeline},
    slots::{self, BoxError, Flashed, SlotError, SlotStore as _},
    unproven::Unproven,
};

fn opened(pack: Pack) -> Result<Genome, BoxError> {
    Ok(Genome::of_pack(pack)?)
}

fn served(pipeline: Option<&Pipeline>) -> impl FnOnce(Genome) {
    move |genome| {
        if let Some(pipeline) = pipeline {
            pipeline.set_genome(Some(genome));
        }
    }
}

impl Flasher {
    pub(super) fn flash_pack(
        &mut self,
        path: &Path,
        pipeline: Option<&Pipeline>,
    ) -> Result<Flashed, SlotError> {
        let serves = |digest: &str| {
            pipeline.and_then(Pipeline::reference).is_some_and(|reference| reference.digest == digest)
        };
        slots::flash_pack(
            &mut self.packs,
            path,
            &self.trust,
            &*self.tell.0,
            &serves,
            opened,
            served(pipeline),
        )
    }

    pub(super) fn roll_back_pack(&mut self, pipeline: Option<&Pipeline>) -> Result<Flashed, SlotError> {
        slots::roll_back_pack(&mut self.packs, &self.trust, opened, served(pipeline))
    }

    /// What the operator should know where a pack serves and the configuration names files.
    pub(super) fn pack_notice(&self) -> Option<String> {
        self.files.then(|| {
            "the flashed reference pack is read, the files of [reference] in the configuration are not; \
             `locusctl remove --model reference` takes the pack out"
                .to_owned()
        })
    }

    /// Whether a pack was flashed: then the files of the configuration are not read, whatever becomes of the pack.
    ///
    /// # Errors
    /// The record of the packs cannot be read.
    pub fn has_pack(&self) -> Result<bool, SlotError> {
        Ok(self.packs.state()?.of(PACK_SLOTS).active.is_some())
    }

    /// Serves with the pack in the slots.
    pub(super) fn boot_packs(
        &mut self,
        pipeline: &Pipeline,
        unproven: &Unproven,
        crashed: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>, SlotError> {
        let had = self.has_pack()?;
        let boot = slots::boot_pack(&mut self.packs, &self.trust, crashed, &mut |pack| {
            let digest = pack.digest().to_owned();
            unproven.mark(&digest);
            let genome = opened(pack);
            unproven.clear(&digest);
            genome
        })?;
        if let Some(genome) = boot.genome {
            pipeline.set_genome(Some(genome));
        }
        Ok(boot.notices.into_iter().chain(self.pack_notice().filter(|_| had)).collect())
    }
}
