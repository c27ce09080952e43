//! An engine without a model, to test queues, transports and journals in microseconds.
//!
//! It says so in its provider and precision, and is used only where an order names it and nothing else.

use std::time::Duration;

use locus_firmware_config::profile::DeviceProfile;

use crate::Error;
use crate::batch::TokenBatch;
use crate::graphs::Graphs;
use crate::session::{
    ActivePrecision, Engine, EngineKind, LoadOptions, Logits, Session, SessionSpec, Unavailable,
};

/// The provider that a fake session reports.
pub const FAKE_PROVIDER: &str = "FAKE-NOT-A-MODEL";

/// Makes [`Session`]s whose logits are a hash of the token ids.
#[derive(Debug, Clone, Copy, Default)]
pub struct FakeEngine {
    /// Time that a batch takes, whatever is in it.
    pub batch: Duration,
}

impl Engine for FakeEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Fake
    }

    fn check(&self, _profile: &DeviceProfile, _options: &LoadOptions) -> Result<(), Unavailable> {
        Ok(())
    }

    fn load_graphs(&self, graphs: &Graphs, _options: &LoadOptions) -> Result<Box<dyn Session>, Error> {
        tracing::warn!(
            provider = FAKE_PROVIDER,
            "the configured engine is the fake one: answers mean nothing"
        );
        let note = Some("answers of the fake engine mean nothing".to_owned());
        let spec = graphs.spec(EngineKind::Fake, FAKE_PROVIDER, "none", ActivePrecision::Fake, note);
        Ok(Box::new(FakeSession { spec, batch: self.batch }))
    }
}

struct FakeSession {
    spec: SessionSpec,
    batch: Duration,
}

impl Session for FakeSession {
    fn spec(&self) -> &SessionSpec {
        &self.spec
    }

    fn run(&mut self, batch: &TokenBatch, logits: &mut Logits) -> Result<(), Error> {
        self.spec.check(batch)?;
        if !self.batch.is_zero() {
            std::thread::sleep(self.batch);
        }
        let labels = self.spec.labels as u64;
        let values: Vec<f32> = (0..batch.rows)
            .flat_map(|row| {
                let seed = row_hash(batch, row);
                (0..labels).map(move |label| to_logit(seed.wrapping_add(label)))
            })
            .collect();
        logits.fill(&self.spec, batch.rows, &values)?;
        Ok(())
    }
}

/// FNV-1a over the attended ids, so that neither padding nor neighbours in a batch change a row's number.
fn row_hash(batch: &TokenBatch, row: usize) -> u64 {
    let cells = row * batch.tokens..(row + 1) * batch.tokens;
    let attended = cells.filter(|cell| batch.ref_mask[*cell] == 1);
    // A sequence has no alternate row.
    let alternate = |cell: usize| batch.alt_ids.get(cell).copied();
    attended
        .flat_map(|cell| [Some(batch.ref_ids[cell]), alternate(cell)].into_iter().flatten())
        .fold(0xcbf2_9ce4_8422_2325, |hash, id| (hash ^ id.cast_unsigned()).wrapping_mul(0x0100_0000_01b3))
}

/// A number in [-4, 4).
fn to_logit(seed: u64) -> f32 {
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    mixed as f32 / (1_u64 << 24) as f32 * 8.0 - 4.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Row;

    fn run(ids: &[i64], bucket: usize) -> Vec<f32> {
        let graphs = Graphs::from_onnx(None, None, &[8, 16], 4, 1, 0);
        let mut session = FakeEngine::default().load_graphs(&graphs, &LoadOptions::default()).unwrap();
        let zeros = vec![0; ids.len()];
        let row = Row { ref_ids: ids, alt_ids: ids, ref_track: &zeros, alt_track: &zeros, features: &[] };
        let mut logits = Logits::default();
        session.run(&TokenBatch::pack_rows(&[row, row], bucket).unwrap(), &mut logits).unwrap();
        assert_eq!(logits.row(0), logits.row(1));
        assert_eq!(session.spec().provider, FAKE_PROVIDER);
        assert_eq!(session.spec().precision, ActivePrecision::Fake);
        logits.values
    }

    #[test]
    fn same_row_same_number_in_every_bucket_and_place() {
        assert_eq!(run(&[2, 7, 3], 8), run(&[2, 7, 3], 16));
        assert_ne!(run(&[2, 7, 3], 8), run(&[2, 8, 3], 8));
        assert!(run(&[2, 7, 3], 8).iter().all(|logit| (-4.0..4.0).contains(logit)));
    }
}
