//! The thread that owns the journal: takes every answer that is ready, makes them durable at once, then replies.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use locus_firmware_config::message::{Answer, Fault, FaultCode, Outcome};

use super::{Job, Shared, Watched, answer};
use crate::{
    clock::ClockWatch,
    journal::{Checkpoint, Entry, Erased, Journal, JournalError, Space},
};

/// How often an idle journal looks whether its key is old enough to change, and how much room is left.
const TICK: Duration = Duration::from_millis(500);
/// How often it looks how much room is left.
const LOOK: Duration = Duration::from_millis(200);
/// Most answers in one commit.
const COMMIT: usize = 256;

/// An answer that is ready but not kept yet.
pub(super) struct Kept {
    pub(super) job: Job,
    pub(super) answer: Box<Answer>,
    pub(super) bundle: [u8; 32],
    pub(super) ready: Instant,
}

/// An order to erase a subject in the open segment, and where the number of that segment and what was erased go.
type Erasure = (String, Sender<Result<(u64, Erased), String>>);

/// What the journal thread says of itself.
#[derive(Clone, Debug)]
pub struct JournalState {
    id: String,
    clock: ClockWatch,
    space: Space,
    erasures: Sender<Erasure>,
    head: Arc<Mutex<(u64, Option<Checkpoint>)>>,
    /// When the thread last came round.
    round: Arc<Mutex<Instant>>,
}

impl JournalState {
    /// The journal's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Index of the next record, and the signed head of the chain.
    pub fn head(&self) -> (u64, Option<Checkpoint>) {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the thread came round within so much time, and the time that it waits when nothing is to be kept.
    pub(super) fn gets_on(&self, within: Duration) -> bool {
        self.round.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < TICK + within
    }

    /// Whether the box's clock is to be believed.
    pub const fn clock(&self) -> &ClockWatch {
        &self.clock
    }

    /// How much room is left.
    pub const fn space(&self) -> &Space {
        &self.space
    }

    /// Erases a subject in the segment that is being written; its number, and what was erased.
    ///
    /// # Errors
    /// The journal's, in words.
    pub fn erase(&self, subject: &str) -> Result<(u64, Erased), String> {
        let gone = |_| "the journal has stopped".to_owned();
        let (reply, done) = bounded(1);
        self.erasures.send((subject.to_owned(), reply)).map_err(|_| gone(()))?;
        done.recv().map_err(|_| gone(()))?
    }

    fn note(&self, journal: &Journal) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) =
            (journal.next_index(), journal.checkpoint().cloned());
    }
}

pub(super) fn start(
    journal: Journal,
    shared: Arc<Shared>,
) -> std::io::Result<(JoinHandle<()>, Sender<Kept>, JournalState)> {
    let (kept, incoming) = unbounded();
    let (erasures, orders) = unbounded();
    let state = JournalState {
        id: journal.id().to_owned(),
        clock: journal.clock(),
        space: journal.space(),
        erasures,
        head: Arc::default(),
        round: Arc::new(Mutex::new(Instant::now())),
    };
    state.note(&journal);
    let noted = state.clone();
    let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
        let _watched = Watched { shared: Arc::clone(&shared), code: FaultCode::JournalFailed };
        run(journal, &incoming, &orders, &shared, &noted);
    })?;
    Ok((thread, kept, state))
}

fn run(
    mut journal: Journal,
    incoming: &Receiver<Kept>,
    orders: &Receiver<Erasure>,
    shared: &Shared,
    state: &JournalState,
) {
    let mut looked = Instant::now();
    loop {
        *state.round.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let result = select! {
            recv(incoming) -> first => match first {
                Ok(first) => {
                    let mut batch = vec![first];
                    batch.extend(incoming.try_iter().take(COMMIT - 1));
                    keep(&mut journal, batch, shared, state)
                }
                Err(_) => break,
            },
            recv(orders) -> order => {
                if let Ok((subject, reply)) = order {
                    let _ = reply.send(journal.erase(&subject).map_err(|error| error.to_string()));
                }
                Ok(())
            }
            default(TICK) => journal.rotate_if_due().map(|_| state.note(&journal)),
        };
        if looked.elapsed() >= LOOK {
            journal.look_at_space();
            looked = Instant::now();
        }
        match result {
            Ok(()) => {}
            Err(error) => {
                // Nothing may be assumed of what is on the disk now: no answer leaves the box any more.
                shared.fail(FaultCode::JournalFailed, error.to_string());
                for kept in incoming.iter() {
                    kept.job.fail(failed());
                }
                return;
            }
        }
    }
    if let Err(error) = journal.close() {
        shared.fail(FaultCode::JournalFailed, format!("the journal was not closed properly: {error}"));
    }
}

fn failed() -> Fault {
    Fault::new(FaultCode::JournalFailed, "the answer could not be kept, so it is not given; the box stops")
}

fn keep(
    journal: &mut Journal,
    mut batch: Vec<Kept>,
    shared: &Shared,
    state: &JournalState,
) -> Result<(), JournalError> {
    let started = Instant::now();
    if let Some(doubt) = state.clock.doubt() {
        let warning =
            format!("the box does not trust its clock ({}): the journal orders by index", doubt.as_str());
        batch.iter_mut().for_each(|kept| kept.answer.warnings.push(warning.clone()));
    }
    let entries: Vec<Entry> = batch
        .iter()
        .map(|kept| Entry {
            plaintext: answer::record(&kept.job, &kept.answer),
            request: kept.job.request.id.is_some().then_some(kept.job.hash),
            subject: kept.job.request.subject.clone(),
            bundle: kept.bundle,
            repeat_of: kept.job.repeat_of,
            terminal: Some(shared.index_key.terminal(&kept.job.terminal)),
        })
        .collect();
    let receipts = match journal.append(&entries) {
        Ok(receipts) => receipts,
        Err(error) => {
            // Before anybody is told: who asks at once is not taken.
            shared.fail(FaultCode::JournalFailed, error.to_string());
            for kept in batch {
                kept.job.fail(failed());
            }
            return Err(error);
        }
    };
    metrics::histogram!("locus_stage_seconds", "stage" => "journal").record(started.elapsed().as_secs_f64());
    metrics::counter!("locus_journal_records_total").increment(receipts.len() as u64);
    // Before anybody is answered: who asks for the health next sees the record.
    state.note(journal);
    for (mut kept, receipt) in batch.into_iter().zip(receipts) {
        kept.answer.receipt = Some(receipt);
        kept.answer.timing_us.journal = answer::micros(kept.ready.elapsed());
        kept.job.finish(Outcome::Answer(kept.answer));
    }
    Ok(())
}
