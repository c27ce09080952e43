//! The seam: an engine says whether it can run here, loads graphs, and hands out a session.

mod error;
mod words;

use std::{
    cell::Cell,
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use locus_firmware_config::profile::DeviceProfile;
use serde::Serialize;

use crate::batch::{BatchError, TokenBatch};
use crate::graphs::{Graphs, Inputs};
use crate::{Bundle, Error};

pub use error::{SessionError, Unavailable};
pub use words::{ActivePrecision, EngineKind, Precision};

/// How to load a model on this run.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Engines in order of preference; empty takes the profile's order.
    pub order: Vec<EngineKind>,
    /// Precision asked for; `Auto` takes the profile's.
    pub precision: Precision,
    /// Threads inside one operator of the only session; 0 lets the engine use as many cores as the profile says, in
    /// the way that is fastest.
    pub intra_threads: usize,
    /// The ONNX Runtime library; `None` looks in `LOCUS_ONNXRUNTIME` and the project's `.locus` folder.
    pub onnxruntime: Option<PathBuf>,
    /// Where TensorRT keeps built engines; `None` keeps none.
    pub cache_dir: Option<PathBuf>,
    /// Told of each length of rows that is ready.
    pub built: OnBuilt,
}

/// One more length of rows is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built {
    /// How many are.
    pub done: usize,
    /// How many there will be.
    pub of: usize,
    /// Length of the rows, in tokens.
    pub bucket: u32,
}

/// Who is told while a session is built; nobody by default.
#[derive(Clone, Default)]
pub struct OnBuilt(Option<Arc<dyn Fn(Built) + Send + Sync>>);

impl OnBuilt {
    /// Tells this one.
    pub fn new(tell: impl Fn(Built) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(crate) fn tell(&self, built: Built) {
        if let Some(tell) = &self.0 {
            tell(built);
        }
    }
}

impl fmt::Debug for OnBuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnBuilt").field(&self.0.is_some()).finish()
    }
}

thread_local! {
    static ANSWERS: Cell<bool> = const { Cell::new(false) };
}

static BUILT_WHILE_SERVING: AtomicU64 = AtomicU64::new(0);

/// Says of this thread that it answers requests: whoever asks waits for whatever it builds.
pub fn this_thread_answers() {
    ANSWERS.set(true);
}

/// Sessions that threads which answer requests have built; none are.
pub fn built_while_serving() -> u64 {
    BUILT_WHILE_SERVING.load(Ordering::Relaxed)
}

pub(crate) fn count_build() {
    if ANSWERS.get() {
        BUILT_WHILE_SERVING.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs a blank row of each bucket and tells of it: kernels are chosen and arenas grow here, not in the first answer. A
/// provider that registers but cannot compute fails here as well.
pub(crate) fn warm_up(session: &mut dyn Session, options: &LoadOptions) -> Result<(), Error> {
    let buckets = session.spec().buckets.clone();
    for (n, &bucket) in buckets.iter().enumerate() {
        let blank = session.spec().blank(1, bucket as usize);
        session.run(&blank, &mut Logits::default())?;
        options.built.tell(Built { done: n + 1, of: buckets.len(), bucket });
    }
    Ok(())
}

/// What a session takes and what runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionSpec {
    /// What a row is.
    #[serde(skip)]
    pub inputs: Inputs,
    /// The engine.
    pub engine: EngineKind,
    /// The provider that is registered and asked first, by the engine's own name for it. It did start; single
    /// operators that it does not have run in the next one.
    pub provider: String,
    /// The library and its version, as far as it tells.
    pub runtime: String,
    /// The precision really in use.
    pub precision: ActivePrecision,
    /// Why the precision is not the one that was hoped for.
    pub note: Option<String>,
    /// Lengths in tokens that are prepared, ascending.
    pub buckets: Vec<u32>,
    /// Rows per batch at most.
    pub max_batch: u32,
    /// Logits per row.
    pub labels: u32,
    /// Features per row.
    pub n_features: u32,
}

impl SessionSpec {
    /// A batch of `rows` rows of nothing but padding behind one attended token, to warm a session up.
    pub fn blank(&self, rows: usize, tokens: usize) -> TokenBatch {
        TokenBatch::blank(self.inputs, rows, tokens, self.n_features as usize)
    }

    /// Checks a batch before it reaches a library.
    ///
    /// # Errors
    /// [`BatchError`] when the batch is malformed, has too many rows, or a length that is no bucket;
    /// [`SessionError::Features`] when its features are not the graph's.
    pub fn check(&self, batch: &TokenBatch) -> Result<(), Error> {
        batch.check()?;
        if batch.inputs != self.inputs {
            return Err(BatchError::Inputs { got: batch.inputs, expected: self.inputs }.into());
        }
        if batch.rows > self.max_batch as usize {
            return Err(BatchError::TooManyRows { got: batch.rows, limit: self.max_batch as usize }.into());
        }
        if !self.buckets.iter().any(|bucket| *bucket as usize == batch.tokens) {
            let buckets = self.buckets.clone();
            return Err(SessionError::Bucket { got: batch.tokens, buckets }.into());
        }
        if batch.n_features != self.n_features as usize {
            let expected = self.n_features as usize;
            return Err(SessionError::Features { got: batch.n_features, expected }.into());
        }
        Ok(())
    }
}

/// Raw outputs, row-major `[rows, labels]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Logits {
    /// Number of rows.
    pub rows: usize,
    /// Logits per row.
    pub labels: usize,
    /// The values.
    pub values: Vec<f32>,
}

impl Logits {
    /// The logits of one row; empty when there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        self.values.get(row * self.labels..(row + 1) * self.labels).unwrap_or(&[])
    }

    /// Takes the output of an engine after checking its shape and that every number is finite.
    pub(crate) fn fill(
        &mut self,
        spec: &SessionSpec,
        rows: usize,
        values: &[f32],
    ) -> Result<(), SessionError> {
        let labels = spec.labels as usize;
        if values.len() != rows * labels {
            let expected = rows * labels;
            return Err(SessionError::Output { engine: spec.engine, got: values.len(), expected });
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(SessionError::NotFinite { engine: spec.engine, row: at / labels.max(1) });
        }
        self.rows = rows;
        self.labels = labels;
        self.values.clear();
        self.values.extend_from_slice(values);
        Ok(())
    }
}

/// Something that turns graphs into sessions.
pub trait Engine {
    /// Which engine this is.
    fn kind(&self) -> EngineKind;

    /// Whether this machine and profile can run it, before any model is touched.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason.
    fn check(&self, profile: &DeviceProfile, options: &LoadOptions) -> Result<(), Unavailable>;

    /// Prepares graphs that need not come from a bundle.
    ///
    /// # Errors
    /// [`SessionError`] when the engine cannot run this graph in this precision.
    fn load_graphs(&self, graphs: &Graphs, options: &LoadOptions) -> Result<Box<dyn Session>, Error>;

    /// Prepares a verified bundle.
    ///
    /// # Errors
    /// As [`Engine::load_graphs`].
    fn load(&self, bundle: &Bundle, options: &LoadOptions) -> Result<Box<dyn Session>, Error> {
        self.load_graphs(&Graphs::from_bundle(bundle)?, options)
    }
}

/// A prepared model. Owned by one thread at a time.
pub trait Session: Send {
    /// What it takes and what runs it.
    fn spec(&self) -> &SessionSpec;

    /// Runs one batch: `[rows, tokens]` in, `[rows, labels]` out, all finite.
    ///
    /// # Errors
    /// [`BatchError`] or [`SessionError`]; `logits` is untouched then.
    fn run(&mut self, batch: &TokenBatch, logits: &mut Logits) -> Result<(), Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_of_a_thread_that_answers_are_counted_and_no_others() {
        let before = built_while_serving();
        count_build();
        assert_eq!(built_while_serving(), before);
        std::thread::spawn(|| {
            this_thread_answers();
            count_build();
        })
        .join()
        .unwrap();
        assert_eq!(built_while_serving(), before + 1);
    }

    fn spec() -> SessionSpec {
        SessionSpec {
            inputs: Inputs::Pair,
            engine: EngineKind::Tract,
            provider: "tract".into(),
            runtime: "tract".into(),
            precision: ActivePrecision::Fp32,
            note: None,
            buckets: vec![32, 64],
            max_batch: 2,
            labels: 1,
            n_features: 3,
        }
    }

    #[test]
    fn a_batch_outside_the_spec_never_reaches_a_library() {
        let spec = spec();
        assert!(spec.check(&TokenBatch::blank(Inputs::Pair, 2, 64, 3)).is_ok());
        assert!(spec.check(&TokenBatch::blank(Inputs::Pair, 3, 64, 3)).is_err());
        assert!(spec.check(&TokenBatch::blank(Inputs::Pair, 1, 48, 3)).is_err());
        assert!(spec.check(&TokenBatch::blank(Inputs::Pair, 1, 64, 2)).is_err());
        assert!(spec.check(&TokenBatch::blank(Inputs::Pair, 0, 64, 3)).is_err());
        assert!(spec.check(&TokenBatch::blank(Inputs::Sequence, 1, 64, 3)).is_err());
    }

    #[test]
    fn logits_that_are_not_finite_are_an_error_and_leave_the_old_ones() {
        let mut logits = Logits { rows: 1, labels: 1, values: vec![5.0] };
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let got = logits.fill(&spec(), 2, &[0.0, bad]);
            assert!(matches!(got, Err(SessionError::NotFinite { row: 1, .. })));
        }
        assert!(matches!(
            logits.fill(&spec(), 2, &[0.0]),
            Err(SessionError::Output { got: 1, expected: 2, .. })
        ));
        assert_eq!(logits.row(0), [5.0]);
        assert!(logits.row(9).is_empty());
    }
}
