//! Opens the first engine of the configured order that works, and reports every one that did not.

use locus_firmware_config::profile::DeviceProfile;
use serde::Serialize;

use crate::fake::FakeEngine;
use crate::graphs::Graphs;
use crate::ort::OrtEngine;
use crate::session::{Engine, EngineKind, LoadOptions, Session, SessionError, Unavailable, count_build};
use crate::settings::EngineSettings;
#[cfg(feature = "tract")]
use crate::tract::TractEngine;
use crate::{Bundle, Error};

/// An engine that came first in the order and does not serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The engine.
    pub engine: EngineKind,
    /// Why, in words for the operator.
    pub reason: String,
}

/// A session, and what was tried before it.
pub struct Opened {
    /// The session that serves.
    pub session: Box<dyn Session>,
    /// Engines before it in the order: to be shown in health and with every answer.
    pub skipped: Vec<Skipped>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("spec", self.session.spec()).field("skipped", &self.skipped).finish()
    }
}

/// Opens a session for a verified bundle with the first engine of the order that works here.
///
/// The order is `options.order`, else the profile's. Only engines named there are tried, and the fake one only where
/// it is the only one: it never serves because another engine could not.
///
/// # Errors
/// [`Error::NoEngine`] with every reason when none works; [`SessionError::FakeBesideOthers`].
pub fn open_session(
    bundle: &Bundle,
    profile: &DeviceProfile,
    options: &LoadOptions,
) -> Result<Opened, Error> {
    open_graphs(&Graphs::from_bundle(bundle)?, profile, options)
}

/// As [`open_session`], for graphs that need not come from a bundle.
///
/// # Errors
/// As [`open_session`].
pub fn open_graphs(graphs: &Graphs, profile: &DeviceProfile, options: &LoadOptions) -> Result<Opened, Error> {
    count_build();
    let settings = EngineSettings::from_profile(profile)?;
    let options = &settings.fill(options);
    if options.order.contains(&EngineKind::Fake) && options.order.len() > 1 {
        let got = options.order.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
        return Err(SessionError::FakeBesideOthers { got }.into());
    }
    let graphs = &Graphs {
        max_batch: graphs.max_batch.min(settings.max_batch),
        buckets: settings.buckets_of(&graphs.buckets)?,
        ..graphs.clone()
    };
    let mut skipped = Vec::new();
    for kind in options.order.iter().copied() {
        let attempt = engine_for(kind, &settings)
            .and_then(|engine| engine.check(profile, options).map(|()| engine))
            .map_err(|unavailable| unavailable.reason)
            .and_then(|engine| engine.load_graphs(graphs, options).map_err(|error| error.to_string()));
        match attempt {
            Ok(session) => return Ok(Opened { session, skipped }),
            Err(reason) => {
                tracing::warn!(engine = %kind, %reason, "engine skipped");
                skipped.push(Skipped { engine: kind, reason });
            }
        }
    }
    Err(Error::NoEngine { skipped })
}

/// The engine of a kind, with the machine's settings.
///
/// # Errors
/// [`Unavailable`] for a kind that this build does not have.
pub fn engine_for(kind: EngineKind, settings: &EngineSettings) -> Result<Box<dyn Engine>, Unavailable> {
    Ok(match kind {
        EngineKind::OrtTensorrt | EngineKind::OrtCuda | EngineKind::OrtOpenvino | EngineKind::OrtCpu => {
            Box::new(OrtEngine::new(kind, settings.clone())?)
        }
        #[cfg(feature = "tract")]
        EngineKind::Tract => Box::new(TractEngine),
        #[cfg(not(feature = "tract"))]
        EngineKind::Tract => {
            return Err(Unavailable::new(
                "this build has no tract; build with the feature tract, or name ort-cpu",
            ));
        }
        EngineKind::Fake => Box::new(FakeEngine { batch: settings.fake_batch }),
    })
}
