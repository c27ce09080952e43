//! The sessions of one model. A small model on the CPU has one on each core, which share the rows of a batch: threads
//! inside its operators would do too little between two meetings, and wait for each other where a core is busy.

use std::{
    ops::Range,
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
};

use locus_firmware_config::profile::DeviceProfile;

use super::memory::Remembering;
use crate::batch::{BatchError, TokenBatch};
use crate::select::{Opened, Skipped, open_graphs};
use crate::session::{EngineKind, LoadOptions, Logits, OnBuilt, Session, SessionError, SessionSpec};
use crate::settings::EngineSettings;
use crate::{Error, Graphs};

/// Largest graph that each core gets a copy of, in bytes. A row that is alone has one core then.
const SMALL: usize = 8 << 20;

pub(super) struct Crew {
    /// Runs in the caller's thread.
    here: Remembering,
    hands: Vec<Hand>,
}

impl Crew {
    /// Opens what a model needs on this machine; by [`LoadOptions::intra_threads`] one session and no more.
    pub(super) fn open(
        graphs: &Graphs,
        profile: &DeviceProfile,
        options: &LoadOptions,
    ) -> Result<(Self, Vec<Skipped>), Error> {
        let Opened { session, skipped } = open_graphs(graphs, profile, options)?;
        let (kind, cores) = (session.spec().engine, EngineSettings::from_profile(profile)?.cores());
        let small = graphs.largest() <= SMALL && kind == EngineKind::OrtCpu;
        if !small || cores == 1 || options.intra_threads != 0 {
            return Ok((Self::of(session, Vec::new())?, skipped));
        }
        drop(session);
        let each =
            LoadOptions { order: vec![kind], intra_threads: 1, built: OnBuilt::default(), ..options.clone() };
        let open = || Ok::<_, Error>(open_graphs(graphs, profile, &each)?.session);
        let here = open()?;
        let others = (1..cores).map(|_| open()).collect::<Result<_, _>>()?;
        Ok((Self::of(here, others)?, skipped))
    }

    fn of(here: Box<dyn Session>, others: Vec<Box<dyn Session>>) -> Result<Self, Error> {
        let hands = others.into_iter().enumerate().map(|(n, session)| Hand::start(n + 2, session));
        Ok(Self { here: Remembering::new(here), hands: hands.collect::<Result<_, _>>()? })
    }

    /// Each session by itself.
    pub(super) fn each(&mut self) -> impl Iterator<Item = &mut dyn Session> {
        let hands = self.hands.iter_mut().map(|hand| hand as &mut dyn Session);
        std::iter::once(&mut self.here as &mut dyn Session).chain(hands)
    }

    /// As [`Remembering::write_over`], of all sessions.
    pub(super) fn write_over(&mut self) -> Result<(), Error> {
        self.hands.iter().for_each(|hand| hand.begin(Order::WriteOver));
        let outcome = self.here.write_over();
        self.hands.iter().fold(outcome, |outcome, hand| outcome.and(hand.end().map(drop)))
    }
}

impl Session for Crew {
    fn spec(&self) -> &SessionSpec {
        self.here.spec()
    }

    fn run(&mut self, batch: &TokenBatch, logits: &mut Logits) -> Result<(), Error> {
        self.here.spec().check(batch)?;
        let shares = shares(batch.rows, 1 + self.hands.len());
        let [own, others @ ..] = shares.as_slice() else { return Err(BatchError::Empty.into()) };
        if others.is_empty() {
            return self.here.run(batch, logits);
        }
        let busy = &self.hands[..others.len()];
        for (hand, share) in busy.iter().zip(others) {
            hand.begin(Order::Run(batch.part(share.clone())));
        }
        let mut all = Logits::default();
        let mut outcome = self.here.run(&batch.part(own.clone()), &mut all);
        for hand in busy {
            // Each is waited for, whatever became of the others: its answer must not stand for the next batch's.
            outcome = match (outcome, hand.end()) {
                (Ok(()), Ok(more)) => {
                    all.rows += more.rows;
                    all.values.extend(more.values);
                    Ok(())
                }
                (Err(error), _) | (Ok(()), Err(error)) => Err(error),
            };
        }
        outcome.map(|()| *logits = all)
    }
}

/// Ranges of nearly equal length, the longest first: no more than there are rows.
fn shares(rows: usize, members: usize) -> Vec<Range<usize>> {
    let members = members.min(rows);
    let mut from = 0;
    let lengths = (0..members).map(|n| rows / members + usize::from(n < rows % members));
    lengths.map(|length| (from, from += length).0..from).collect()
}

enum Order {
    Run(TokenBatch),
    WriteOver,
}

/// A session with a thread of its own.
struct Hand {
    spec: SessionSpec,
    /// Nothing once it is to end.
    orders: Option<Sender<Order>>,
    done: Receiver<Result<Logits, Error>>,
    thread: Option<JoinHandle<()>>,
}

impl Hand {
    fn start(number: usize, session: Box<dyn Session>) -> Result<Self, SessionError> {
        let spec = session.spec().clone();
        let (engine, mut session) = (spec.engine, Remembering::new(session));
        let (orders, incoming) = channel();
        let (report, done) = channel();
        let work = move || {
            for order in incoming {
                let mut logits = Logits::default();
                let outcome = match order {
                    Order::Run(batch) => session.run(&batch, &mut logits),
                    Order::WriteOver => session.write_over(),
                };
                if report.send(outcome.map(|()| logits)).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("inference-{number}")).spawn(work);
        let thread =
            thread.map_err(|error| SessionError::Run { engine, detail: format!("no thread: {error}") })?;
        Ok(Self { spec, orders: Some(orders), done, thread: Some(thread) })
    }

    /// Gives an order; a thread that is gone says so in [`Hand::end`].
    fn begin(&self, order: Order) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }

    /// What became of the order.
    fn end(&self) -> Result<Logits, Error> {
        let gone =
            |_| SessionError::Run { engine: self.spec.engine, detail: "a thread of it has ended".into() };
        self.done.recv().map_err(gone)?
    }
}

impl Session for Hand {
    fn spec(&self) -> &SessionSpec {
        &self.spec
    }

    fn run(&mut self, batch: &TokenBatch, logits: &mut Logits) -> Result<(), Error> {
        self.begin(Order::Run(batch.clone()));
        *logits = self.end()?;
        Ok(())
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::graphs::Inputs;
    use crate::session::ActivePrecision;
    use crate::testing::{self, Numbers, OwnedRow};

    /// What a member did: its name, and the batch.
    type Seen = Arc<Mutex<Vec<(char, TokenBatch)>>>;

    /// Says the first feature of each row; 7 is an error, 9 the end of the thread.
    struct Member {
        name: char,
        spec: SessionSpec,
        seen: Seen,
    }

    impl Session for Member {
        fn spec(&self) -> &SessionSpec {
            &self.spec
        }

        fn run(&mut self, batch: &TokenBatch, logits: &mut Logits) -> Result<(), Error> {
            self.seen.lock().unwrap().push((self.name, batch.clone()));
            let values: Vec<f32> = batch.features.iter().step_by(batch.n_features).copied().collect();
            assert!(!values.contains(&9.0));
            if values.contains(&7.0) {
                return Err(SessionError::Run { engine: EngineKind::Fake, detail: "seven".into() }.into());
            }
            logits.fill(&self.spec, batch.rows, &values)?;
            Ok(())
        }
    }

    fn crew(names: &str) -> (Crew, Seen) {
        let seen = Seen::default();
        let graphs = Graphs::from_onnx(None, None, &[32, 64], 8, 1, 3);
        let spec = graphs.spec(EngineKind::Fake, "p", "r", ActivePrecision::Fake, None);
        let mut members = names.chars().map(|name| -> Box<dyn Session> {
            Box::new(Member { name, spec: spec.clone(), seen: Arc::clone(&seen) })
        });
        let here = members.next().unwrap();
        (Crew::of(here, members.collect()).unwrap(), seen)
    }

    fn batch(values: &[f32]) -> TokenBatch {
        let mut batch = TokenBatch::blank(Inputs::Pair, values.len(), 32, 3);
        values.iter().enumerate().for_each(|(row, value)| batch.features[row * 3] = *value);
        batch
    }

    fn run(crew: &mut Crew, values: &[f32]) -> Result<Vec<f32>, Error> {
        let mut logits = Logits::default();
        crew.run(&batch(values), &mut logits)?;
        assert_eq!((logits.rows, logits.labels), (values.len(), 1));
        Ok(logits.values)
    }

    /// Who ran how many rows since the last look, by name.
    fn rows(seen: &Seen) -> Vec<(char, usize)> {
        let mut all: Vec<_> =
            seen.lock().unwrap().drain(..).map(|(name, batch)| (name, batch.rows)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn many_rows_are_shared_and_come_back_in_their_order() {
        let (mut crew, seen) = crew("abc");
        for count in 1..=8 {
            let values: Vec<f32> = (0..count).map(|n| n as f32 / 8.0).collect();
            assert_eq!(run(&mut crew, &values).unwrap(), values);
        }
        rows(&seen);
        run(&mut crew, &[1.0]).unwrap();
        assert_eq!(rows(&seen), [('a', 1)]);
        run(&mut crew, &[1.0; 2]).unwrap();
        assert_eq!(rows(&seen), [('a', 1), ('b', 1)]);
        run(&mut crew, &[1.0; 8]).unwrap();
        assert_eq!(rows(&seen), [('a', 3), ('b', 3), ('c', 2)]);
    }

    #[test]
    fn one_session_takes_everything() {
        let (mut crew, seen) = crew("a");
        assert_eq!(run(&mut crew, &[1.0, 2.0]).unwrap(), [1.0, 2.0]);
        assert_eq!((rows(&seen), crew.each().count()), (vec![('a', 2)], 1));
    }

    #[test]
    fn every_session_is_written_over_with_the_most_rows_that_it_had() {
        let (mut crew, seen) = crew("abc");
        for count in [1, 7, 2] {
            run(&mut crew, &vec![1.0; count]).unwrap();
        }
        seen.lock().unwrap().clear();
        crew.write_over().unwrap();
        let mut written = std::mem::take(&mut *seen.lock().unwrap());
        written.sort_by_key(|(name, _)| *name);
        let blank = |rows| TokenBatch::blank(Inputs::Pair, rows, 32, 3);
        assert_eq!(written, [('a', blank(3)), ('b', blank(2)), ('c', blank(2))]);
        crew.write_over().unwrap();
        assert!(seen.lock().unwrap().is_empty(), "nothing was used since");
    }

    #[test]
    fn an_error_of_any_share_is_the_batchs_and_the_next_one_is_answered() {
        for at in 0..4 {
            let (mut crew, _) = crew("abc");
            let mut values = [1.0, 2.0, 3.0, 4.0];
            values[at] = 7.0;
            let mut logits = Logits { rows: 1, labels: 1, values: vec![5.0] };
            let error = crew.run(&batch(&values), &mut logits).unwrap_err().to_string();
            assert!(error.contains("seven"), "{error}");
            assert_eq!(logits.values, [5.0], "untouched");
            assert_eq!(run(&mut crew, &[4.0, 3.0, 2.0]).unwrap(), [4.0, 3.0, 2.0]);
        }
    }

    #[test]
    fn a_thread_that_has_ended_is_an_error_and_no_wait() {
        let (mut crew, _) = crew("abc");
        for values in [[1.0, 9.0], [1.0, 2.0]] {
            let error = run(&mut crew, &values).unwrap_err().to_string();
            assert!(error.contains("has ended"), "{error}");
        }
        assert!(crew.write_over().is_err());
        assert_eq!(run(&mut crew, &[3.0]).unwrap(), [3.0]);
    }

    #[test]
    fn with_the_real_library_a_small_model_has_each_core_and_says_what_one_session_says() {
        if testing::onnxruntime().is_none() {
            return;
        }
        let (graphs, profile) = (testing::graphs(5), testing::profile());
        let open = |intra_threads, order: &[EngineKind]| {
            let options = LoadOptions { order: order.to_vec(), intra_threads, ..LoadOptions::default() };
            Crew::open(&graphs, &profile, &options).unwrap().0
        };
        let mut alone = open(1, &[EngineKind::OrtCpu]);
        let mut crew = open(0, &[EngineKind::OrtCpu]);
        let cores = EngineSettings::from_profile(&profile).unwrap().cores();
        assert_eq!((alone.each().count(), crew.each().count()), (1, cores));
        assert_eq!(open(0, &[EngineKind::Tract]).each().count(), 1, "tract has no sessions to share with");
        let mut numbers = Numbers::new(6);
        let rows: Vec<_> = (0..7).map(|n| OwnedRow::new(&mut numbers, 20 + n, 1.0)).collect();
        let batch = TokenBatch::pack_rows(&rows.iter().map(OwnedRow::row).collect::<Vec<_>>(), 32).unwrap();
        let (mut shared, mut expected) = (Logits::default(), Logits::default());
        crew.run(&batch, &mut shared).unwrap();
        alone.run(&batch, &mut expected).unwrap();
        assert_eq!((shared.rows, shared.labels), (expected.rows, expected.labels));
        for (row, (a, b)) in shared.values.iter().zip(&expected.values).enumerate() {
            assert!((a - b).abs() < 1e-5, "row {row}: {a} {b}");
        }
    }

    #[test]
    fn shares_cover_all_rows_once() {
        for (rows, members) in [(1, 4), (4, 4), (9, 4), (32, 3), (5, 1)] {
            let all = shares(rows, members);
            assert_eq!(all.iter().flat_map(Clone::clone).collect::<Vec<_>>(), (0..rows).collect::<Vec<_>>());
            assert!(all.iter().all(|share| share.len() <= all[0].len() && share.len() + 1 >= all[0].len()));
        }
    }
}
