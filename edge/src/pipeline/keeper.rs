//! Keeps answers: all that are ready are made durable at once, then they are given.
//!
//! A thread does so beside the inference, but for an answer that is alone in the box: that spares a change of
//! threads, and the inference thread has nothing else to do.

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
    journal::{Checkpoint, Entry, Erased, Journal, Space},
};

/// How often the thread looks whether the journal's key is old enough to change, and how much room is left.
const TICK: Duration = Duration::from_millis(200);
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

/// The journal, and what is to be done when it cannot go on.
struct Book {
    /// Nothing once it was closed or failed.
    journal: Mutex<Option<Journal>>,
    shared: Arc<Shared>,
    state: JournalState,
}

/// Where the inference thread leaves its answers.
pub(super) struct Keeper {
    book: Arc<Book>,
    thread: Sender<Kept>,
}

pub(super) fn start(
    journal: Journal,
    shared: Arc<Shared>,
) -> std::io::Result<(JoinHandle<()>, Keeper, JournalState)> {
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
    let book = Arc::new(Book {
        journal: Mutex::new(Some(journal)),
        shared: Arc::clone(&shared),
        state: state.clone(),
    });
    let keeper = Keeper { book: Arc::clone(&book), thread: kept };
    let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
        let _watched = Watched { shared, code: FaultCode::JournalFailed };
        book.run(&incoming, &orders);
    })?;
    Ok((thread, keeper, state))
}

impl Keeper {
    /// Keeps an answer and gives it: here and now where nobody else is on the way.
    pub(super) fn take(&self, kept: Kept) {
        if kept.job.units.count() == self.book.shared.admission.taken()
            && let Ok(mut journal) = self.book.journal.try_lock()
        {
            return self.book.keep(&mut journal, vec![kept]);
        }
        if let Err(crossbeam_channel::SendError(kept)) = self.thread.send(kept) {
            kept.job.fail(failed());
        }
    }
}

impl Book {
    fn run(&self, incoming: &Receiver<Kept>, orders: &Receiver<Erasure>) {
        let mut looked = Instant::now();
        loop {
            *self.state.round.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            select! {
                recv(incoming) -> first => match first {
                    Ok(first) => {
                        let mut batch = vec![first];
                        batch.extend(incoming.try_iter().take(COMMIT - 1));
                        // A thread that broke off while it wrote left it in a state that nobody knows.
                        match self.journal.lock() {
                            Ok(mut journal) => self.keep(&mut journal, batch),
                            Err(_) => self.keep(&mut None, batch),
                        }
                    }
                    Err(_) => break,
                },
                recv(orders) -> order => {
                    if let Ok((subject, reply)) = order {
                        let erased = self.with(|journal| journal.erase(&subject).map_err(|error| error.to_string()));
                        let _ = reply.send(erased.unwrap_or_else(|| Err("the journal has stopped".into())));
                    }
                }
                default(TICK) => {
                    let turned = self.with(|journal| journal.rotate_if_due().map(|_| self.state.note(journal)));
                    if let Some(Err(error)) = turned {
                        self.fail(error.to_string());
                    }
                }
            }
            if looked.elapsed() >= TICK {
                self.with(|journal| journal.look_at_space());
                looked = Instant::now();
            }
        }
        let journal = self.journal.lock().ok().and_then(|mut journal| journal.take());
        if let Some(Err(error)) = journal.map(Journal::close) {
            self.shared
                .fail(FaultCode::JournalFailed, format!("the journal was not closed properly: {error}"));
        }
    }

    /// What is done with a journal that goes on.
    fn with<T>(&self, change: impl FnOnce(&mut Journal) -> T) -> Option<T> {
        self.journal.lock().ok()?.as_mut().map(change)
    }

    /// Nothing may be assumed of what is on the disk now: no answer leaves the box any more.
    fn fail(&self, reason: String) {
        self.shared.fail(FaultCode::JournalFailed, reason);
        if let Ok(mut journal) = self.journal.lock() {
            *journal = None;
        }
    }

    fn keep(&self, slot: &mut Option<Journal>, mut batch: Vec<Kept>) {
        let Some(journal) = slot else {
            batch.into_iter().for_each(|kept| kept.job.fail(failed()));
            return;
        };
        let started = Instant::now();
        if let Some(doubt) = self.state.clock.doubt() {
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
                terminal: Some(self.shared.index_key.terminal(&kept.job.terminal)),
            })
            .collect();
        let receipts = match journal.append(&entries) {
            Ok(receipts) => receipts,
            Err(error) => {
                *slot = None;
                // Before anybody is told: who asks at once is not taken.
                self.shared.fail(FaultCode::JournalFailed, error.to_string());
                batch.into_iter().for_each(|kept| kept.job.fail(failed()));
                return;
            }
        };
        metrics::histogram!("locus_stage_seconds", "stage" => "journal")
            .record(started.elapsed().as_secs_f64());
        metrics::counter!("locus_journal_records_total").increment(receipts.len() as u64);
        // Before anybody is answered: who asks for the health next sees the record.
        self.state.note(journal);
        for (mut kept, receipt) in batch.into_iter().zip(receipts) {
            kept.answer.receipt = Some(receipt);
            kept.answer.timing_us.journal = answer::micros(kept.ready.elapsed());
            kept.job.finish(Outcome::Answer(kept.answer));
        }
    }
}

fn failed() -> Fault {
    Fault::new(FaultCode::JournalFailed, "the answer could not be kept, so it is not given; the box stops")
}
