//! Which shapes a session ran in, so that what its engine still holds of them can be written over.

use std::collections::BTreeMap;

use crate::Error;
use crate::batch::TokenBatch;
use crate::session::{Logits, Session, SessionSpec};

/// A session that remembers the most rows of each bucket. An engine's arena keeps the activations of its last
/// runs, out of reach of anybody but the engine; a run of fewer rows leaves those behind it as they are.
pub(super) struct Remembering {
    session: Box<dyn Session>,
    most_rows: BTreeMap<usize, usize>,
}

impl Remembering {
    pub(super) fn new(session: Box<dyn Session>) -> Self {
        Self { session, most_rows: BTreeMap::new() }
    }

    /// Runs blank rows in every shape that was used since the last call: each bucket with its most rows.
    pub(super) fn write_over(&mut self) -> Result<(), Error> {
        let mut logits = Logits::default();
        let mut outcome = Ok(());
        for (tokens, rows) in std::mem::take(&mut self.most_rows) {
            let blank = self.session.spec().blank(rows, tokens);
            outcome = outcome.and(self.session.run(&blank, &mut logits));
        }
        outcome
    }
}

impl Session for Remembering {
    fn spec(&self) -> &SessionSpec {
        self.session.spec()
    }

    fn run(&mut self, batch: &TokenBatch, logits: &mut Logits) -> Result<(), Error> {
        let most = self.most_rows.entry(batch.tokens).or_default();
        *most = batch.rows.max(*most);
        self.session.run(batch, logits)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::graphs::Inputs;
    use crate::session::{ActivePrecision, EngineKind, SessionError};

    /// Notes the shapes it is run in; fails on a shape of 7 rows.
    struct Noting {
        spec: SessionSpec,
        runs: Arc<Mutex<Vec<TokenBatch>>>,
    }

    impl Session for Noting {
        fn spec(&self) -> &SessionSpec {
            &self.spec
        }

        fn run(&mut self, batch: &TokenBatch, _logits: &mut Logits) -> Result<(), Error> {
            self.runs.lock().unwrap().push(batch.clone());
            if batch.rows == 7 {
                return Err(SessionError::Run { engine: EngineKind::Fake, detail: "seven".into() }.into());
            }
            Ok(())
        }
    }

    fn noting() -> (Remembering, Arc<Mutex<Vec<TokenBatch>>>) {
        let runs = Arc::new(Mutex::new(Vec::new()));
        let graphs = crate::Graphs::from_onnx(None, None, &[32, 64], 8, 1, 3);
        let spec = graphs.spec(EngineKind::Fake, "p", "r", ActivePrecision::Fake, None);
        (Remembering::new(Box::new(Noting { spec, runs: Arc::clone(&runs) })), runs)
    }

    fn run(session: &mut Remembering, rows: usize, tokens: usize) {
        let _ = session.run(&TokenBatch::blank(Inputs::Pair, rows, tokens, 3), &mut Logits::default());
    }

    #[test]
    fn every_bucket_that_was_used_is_written_over_with_its_most_rows() {
        let (mut session, runs) = noting();
        for (rows, tokens) in [(1, 64), (5, 32), (3, 64), (2, 32)] {
            run(&mut session, rows, tokens);
        }
        runs.lock().unwrap().clear();
        session.write_over().unwrap();
        let expected = [TokenBatch::blank(Inputs::Pair, 5, 32, 3), TokenBatch::blank(Inputs::Pair, 3, 64, 3)];
        assert_eq!(*runs.lock().unwrap(), expected);
        session.write_over().unwrap();
        assert_eq!(runs.lock().unwrap().len(), 2, "nothing was used since");
    }

    #[test]
    fn a_shape_that_fails_is_told_and_the_others_are_written_over_all_the_same() {
        let (mut session, runs) = noting();
        run(&mut session, 7, 32);
        run(&mut session, 2, 64);
        runs.lock().unwrap().clear();
        assert!(session.write_over().is_err());
        assert_eq!(runs.lock().unwrap().last(), Some(&TokenBatch::blank(Inputs::Pair, 2, 64, 3)));
    }
}
