//! What serves when the daemon starts, and what the operator should know of it.

use locus_firmware_config::pack::PACK_SLOTS;

use super::{Flasher, damaged_notices, prover::open};
use crate::{
    audit::{About, Stage, What},
    health::Notice,
    pipeline::Pipeline,
    slots::{self, Boot, FileSlotStore, MAX_CRASHES, SlotError},
    trust::TrustStore,
    unproven::Unproven,
    vfs::OsVfs,
};

/// What an operator is told of a model at the start.
fn boot_notices(boot: &Boot) -> Vec<String> {
    let model = &boot.model;
    let serves = || {
        boot.bundle.as_ref().map_or_else(
            || "nothing serves".to_owned(),
            |bundle| format!("the previous one serves, {}", bundle.digest()),
        )
    };
    let mut notices = Vec::new();
    notices.extend(
        boot.reverted.as_ref().map(|digest| format!("a restart ended the trial of {model} {digest}")),
    );
    notices.extend(boot.set_back.as_ref().map(|digest| {
        format!(
            "the daemon ended {MAX_CRASHES} times in a row while {model} {digest} started or gave its first answers: it was taken out, {}; flash another one",
            serves()
        )
    }));
    notices.extend(
        boot.fallback
            .as_ref()
            .map(|reason| format!("the active model {model} does not serve, {}: {reason}", serves())),
    );
    notices
}

impl Flasher {
    /// Starts serving what the slots hold; what the operator should know of it.
    ///
    /// # Errors
    /// [`SlotError`] where the record cannot be read: unknown state is never guessed at.
    pub fn boot(&mut self, pipeline: &Pipeline, unproven: &Unproven) -> Result<Vec<Notice>, SlotError> {
        let mut damaged = FileSlotStore::damaged_copies(&OsVfs, &self.dir)?;
        damaged.extend(FileSlotStore::damaged_copies(&OsVfs, &self.packs_dir)?);
        let (profile, options) = (&self.profile, &self.options);
        let left = unproven.take();
        let boots =
            slots::boot(&mut self.store, &self.trust, &|digest| left.contains(digest), &mut |bundle| {
                unproven.mark(bundle.digest());
                let started = open(bundle, profile, options)
                    .and_then(|loaded| pipeline.swap(loaded).map_err(Into::into));
                // Only an end of the process leaves the mark.
                unproven.clear(bundle.digest());
                started.map(|()| pipeline.confirm(&bundle.manifest().name))
            })?;
        let packs = self.boot_packs(pipeline, unproven, &|digest| left.contains(digest))?;
        let mut texts = damaged_notices(&damaged);
        texts.extend(self.document_notices()?);
        let mut notices: Vec<Notice> = texts.into_iter().map(|text| Notice { model: None, text }).collect();
        let of_packs = |text| Notice { model: Some(PACK_SLOTS.to_owned()), text };
        notices.extend(packs.into_iter().map(of_packs));
        for boot in &boots {
            if boot.slots.crashes > 0 {
                self.crashed.insert(boot.model.clone());
            }
            let about = |text| Notice { model: Some(boot.model.clone()), text };
            notices.extend(boot_notices(boot).into_iter().map(about));
        }
        for notice in &notices {
            tracing::error!("{}", notice.text);
            let subject = notice.model.clone();
            let about = About { subject, reason: Some(notice.text.clone()), ..About::default() };
            if let Err(error) = self.audit.note(What::Start, Stage::Noted, about) {
                tracing::error!(%error, "a notice is not in the audit trail");
            }
        }
        Ok(notices)
    }

    /// What the operator should know of the trust document.
    fn document_notices(&self) -> Result<Vec<String>, SlotError> {
        let Some(document) = &self.document else { return Ok(Vec::new()) };
        let damaged = TrustStore::damaged_copies(&OsVfs, document.folder())?;
        let mut notices: Vec<String> = damaged
            .iter()
            .map(|path| format!("{} is damaged, the other copy of the trust document counts", path.display()))
            .collect();
        match self.holds() {
            Ok(unknown) => notices.extend(unknown),
            Err(error) => notices.push(error.to_string()),
        }
        Ok(notices)
    }
}
