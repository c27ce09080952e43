//! The ends of trials: by order, or by themselves.

use super::{FlashReport, Flasher};
use crate::{
    audit::{About, What},
    health::Notice,
    pipeline::Pipeline,
    slots::{self, SlotError, SlotStore as _, Slots},
};

impl Flasher {
    /// Ends a trial well: raises the floor.
    ///
    /// # Errors
    /// [`SlotError::NoTrial`] where this process tries none: a trial does not outlive it.
    pub fn confirm(
        &mut self,
        model: Option<&str>,
        pipeline: Option<&Pipeline>,
    ) -> Result<FlashReport, SlotError> {
        let model = self.tried(model)?;
        self.audited(What::Confirm, Some(model.clone()), |flasher| {
            let trial = flasher.trials.remove(&model).ok_or(SlotError::NoTrial)?;
            flasher
                .proved(pipeline, |store, trust, prover| slots::confirm(store, &model, &trial, trust, prover))
        })
    }

    /// Ends a trial badly: the bundle before serves again. Gives the digest of what was tried.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn revert(
        &mut self,
        model: Option<&str>,
        pipeline: Option<&Pipeline>,
        why: &str,
    ) -> Result<String, SlotError> {
        let model = self.tried(model)?;
        self.noted(What::Revert, Some(model.clone()), |flasher| {
            flasher.trials.remove(&model);
            let digest =
                flasher.with_prover(pipeline, |store, _, prover| slots::end_trial(store, &model, prover));
            let digest = digest.0?;
            let about =
                About { digest: Some(digest.clone()), reason: Some(why.to_owned()), ..About::default() };
            Ok((digest, about))
        })
    }

    /// Whether [`Flasher::settle`] has anything to look at.
    pub(crate) fn unsettled(&self) -> bool {
        !self.crashed.is_empty() || !self.trials.is_empty()
    }

    /// Ends trials by themselves, once the model has answered often enough, or has failed; and forgets ends of the daemon
    /// with a model that answers. Gives what the operator should know.
    pub fn settle(&mut self, pipeline: &Pipeline) -> Vec<Notice> {
        for model in pipeline.proved() {
            if self.crashed.remove(&model)
                && let Err(error) = self.forget_crashes(&model)
            {
                tracing::warn!(%error, model, "that the model answers is not recorded");
            }
        }
        let models: Vec<String> = self.trials.keys().cloned().collect();
        let about = |model: &String, text| Notice { model: Some(model.clone()), text };
        models.iter().filter_map(|m| self.settle_trial(m, pipeline).map(|text| about(m, text))).collect()
    }

    fn forget_crashes(&mut self, model: &str) -> Result<(), SlotError> {
        let slots = self.store.state()?.of(model);
        self.store.put(model, Slots { crashes: 0, ..slots })
    }

    fn settle_trial(&mut self, model: &str, pipeline: &Pipeline) -> Option<String> {
        let (good, failed) = pipeline.tried(model)?;
        if failed > 0 {
            let why = format!("{model} on trial gave no usable number {failed} times, and {good} answers");
            let ended = self.revert(Some(model), Some(pipeline), &why);
            return Some(
                ended
                    .map_or_else(|error| error.to_string(), |digest| format!("{why}: {digest} was reverted")),
            );
        }
        if self.confirm_by_hand || good < u64::from(self.confirm_after) {
            return None;
        }
        let confirmed = self.confirm(Some(model), Some(pipeline));
        confirmed.err().map(|error| format!("the trial of {model} was not confirmed: {error}"))
    }
}
