//! What a model has to pass on this device.

use std::sync::Arc;

use locus_engine::{ActivePrecision, Bundle, EngineKind, GoldenReport, LoadOptions, OnBuilt};
use locus_firmware_config::profile::DeviceProfile;

use crate::{
    pipeline::{Loaded, Pipeline},
    slots::{BoxError, Proving, Step},
};

/// Who is told how far a flash has come.
pub type OnStep = Arc<dyn Fn(&Step) + Send + Sync>;

/// Builds engines and changes the pipeline over.
pub(super) struct Prover<'a> {
    pub(super) flasher: (&'a DeviceProfile, &'a LoadOptions),
    pub(super) pipeline: Option<&'a Pipeline>,
    /// Whether a trial is confirmed at once.
    pub(super) at_once: bool,
    pub(super) most_bytes: u64,
    pub(super) tell: OnStep,
    pub(super) ready: Option<Loaded>,
    pub(super) golden: Option<GoldenReport>,
    pub(super) provider: Option<String>,
}

/// Opens a model on this device. An engine without numbers of its own, whose self-test proves nothing, serves only
/// where nothing else is asked for.
pub(super) fn open(
    bundle: &Bundle,
    profile: &DeviceProfile,
    options: &LoadOptions,
) -> Result<Loaded, BoxError> {
    let scorer = Loaded::open(bundle, profile, options)?;
    if scorer.spec().precision == ActivePrecision::Fake && options.order != [EngineKind::Fake] {
        return Err(
            "got the fake engine, whose answers mean nothing, from the device profile, expected one that \
                    passes the self-test; engine.order = [\"fake\"] in the configuration asks for it"
                .into(),
        );
    }
    Ok(scorer)
}

impl Proving for Prover<'_> {
    fn step(&mut self, step: Step) {
        (self.tell)(&step);
    }

    fn most_bytes(&self) -> u64 {
        self.most_bytes
    }

    fn self_test(&mut self, bundle: &Bundle) -> Result<(), BoxError> {
        let tell = Arc::clone(&self.tell);
        let built = OnBuilt::new(move |built| {
            tell(&Step::Built { done: built.done, of: built.of, bucket: built.bucket });
        });
        let options = LoadOptions { built, ..self.flasher.1.clone() };
        let mut scorer = open(bundle, self.flasher.0, &options)?;
        self.step(Step::SelfTest);
        self.golden = Some(scorer.golden_self_test()?);
        self.provider = Some(scorer.spec().provider.clone());
        self.ready = Some(scorer);
        Ok(())
    }

    fn trial(&mut self, _: &Bundle) -> Result<(), BoxError> {
        match (self.pipeline, self.ready.take()) {
            (Some(pipeline), Some(scorer)) => pipeline.swap(scorer).map_err(Into::into),
            _ => Ok(()),
        }
    }

    fn revert(&mut self, model: &str) {
        if let Some(pipeline) = self.pipeline {
            pipeline.go_back(model);
        }
    }

    fn confirms_at_once(&self) -> bool {
        // Without a daemon nobody asks it anything.
        self.at_once || self.pipeline.is_none()
    }

    fn confirm(&mut self, model: &str) {
        if let Some(pipeline) = self.pipeline {
            pipeline.confirm(model);
        }
    }

    fn serves(&self, digest: &str) -> bool {
        // Without a daemon nothing serves: what is recorded already is proved once more.
        self.pipeline
            .is_some_and(|pipeline| pipeline.models().values().any(|active| active.info.digest == digest))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use locus_engine::Trust;

    use super::*;

    #[test]
    fn an_engine_without_numbers_serves_only_where_nothing_else_is_asked_for() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/variant-effect.locus");
        let bundle = Bundle::open(path, &Trust::AllowUnsigned).unwrap();
        let profile = DeviceProfile::named("cpu-x86").unwrap();
        let open_with = |profile: &DeviceProfile, order: &[EngineKind]| {
            let options = LoadOptions { order: order.to_vec(), ..LoadOptions::default() };
            open(&bundle, profile, &options).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(open_with(&profile, &[EngineKind::Fake]), Ok(()));
        let mixed = open_with(&profile, &[EngineKind::OrtTensorrt, EngineKind::Fake]).unwrap_err();
        assert!(mixed.contains("fake alone or not at all"), "{mixed}");
        let mut asks = profile.clone();
        asks.engines = vec!["fake".to_owned()];
        let implied = open_with(&asks, &[]).unwrap_err();
        assert!(implied.contains("from the device profile"), "{implied}");
    }
}
