//! Repeats: the same (terminal, id) is the same request, asked once and answered as often as it is repeated.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use locus_firmware_config::message::{Fault, FaultCode, Outcome};
use tokio::sync::watch;

type Shared = Arc<Outcome>;
type Line = watch::Receiver<Option<Shared>>;

#[derive(Debug)]
struct Slot {
    body: [u8; 32],
    line: Line,
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<[u8; 32], Slot>,
    done: VecDeque<(Instant, [u8; 32])>,
}

/// Requests that are running, and the answers of those that were.
#[derive(Clone, Debug)]
pub(super) struct Replay {
    table: Arc<Mutex<Table>>,
    keep: Duration,
    most: usize,
}

/// What is known of a request.
pub(super) enum Entry {
    /// Nothing: whoever holds the ticket answers it.
    New(Ticket, Line),
    /// The same request runs or was answered.
    Same(Line),
    /// The id was used for another request.
    Reused,
}

/// The duty to answer one request. Dropped without an outcome, it answers that the engine failed.
#[derive(Debug)]
pub(super) struct Ticket {
    id: Option<[u8; 32]>,
    replay: Replay,
    line: watch::Sender<Option<Shared>>,
}

impl Replay {
    pub(super) fn new(keep: Duration, most: usize) -> Self {
        Self { table: Arc::default(), keep, most }
    }

    fn locked<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A request without an id: nobody can repeat it.
    pub(super) fn anonymous(&self) -> (Ticket, Line) {
        let (line, wait) = watch::channel(None);
        (Ticket { id: None, replay: self.clone(), line }, wait)
    }

    /// Looks a request up by the keyed hashes of (terminal, id) and of its body.
    pub(super) fn enter(&self, id: [u8; 32], body: [u8; 32], now: Instant) -> Entry {
        self.locked(|table| {
            table.forget(now, self.keep, self.most);
            match table.by_id.get(&id) {
                Some(slot) if slot.body == body => Entry::Same(slot.line.clone()),
                Some(_) => Entry::Reused,
                None => {
                    let (line, wait) = watch::channel(None);
                    table.by_id.insert(id, Slot { body, line: wait.clone() });
                    Entry::New(Ticket { id: Some(id), replay: self.clone(), line }, wait)
                }
            }
        })
    }
}

impl Table {
    fn forget(&mut self, now: Instant, keep: Duration, most: usize) {
        while self.done.front().is_some_and(|(at, _)| now.duration_since(*at) > keep)
            || self.done.len() > most
        {
            if let Some((_, id)) = self.done.pop_front() {
                self.by_id.remove(&id);
            }
        }
    }
}

impl Ticket {
    /// Answers everybody who waits. Only answers are kept for repeats: after a fault the request may be asked anew.
    pub(super) fn finish(mut self, outcome: Outcome) {
        self.close(outcome);
    }

    /// Whether nobody waits any more. Then the request is forgotten: who asks again asks anew.
    pub(super) fn forget_if_unheard(&mut self) -> bool {
        let Some(id) = self.id else { return self.line.receiver_count() == 0 };
        // Who joins does so under the lock; the table itself holds one end of the line.
        let unheard = self.replay.locked(|table| {
            let unheard = self.line.receiver_count() <= 1;
            if unheard {
                table.by_id.remove(&id);
            }
            unheard
        });
        if unheard {
            self.id = None;
        }
        unheard
    }

    fn close(&mut self, outcome: Outcome) {
        if let Some(id) = self.id.take() {
            let keep = matches!(outcome, Outcome::Answer(_));
            self.replay.locked(|table| {
                if keep {
                    table.done.push_back((Instant::now(), id));
                } else {
                    table.by_id.remove(&id);
                }
            });
        }
        self.line.send_replace(Some(Arc::new(outcome)));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.line.borrow().is_none() {
            let message = "the request was lost inside the box; ask again with the same id";
            self.close(Outcome::Fault(Fault::new(FaultCode::EngineFailed, message)));
        }
    }
}

/// The outcome, once there is one.
pub(super) async fn wait(mut line: Line) -> Shared {
    match line.wait_for(Option::is_some).await.map(|outcome| outcome.clone()) {
        Ok(Some(outcome)) => outcome,
        _ => Arc::new(Outcome::Fault(Fault::new(
            FaultCode::EngineFailed,
            "the request was lost inside the box",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> Outcome {
        Outcome::Fault(Fault::new(FaultCode::Busy, "x"))
    }

    fn enter(replay: &Replay, id: u8, body: u8) -> Entry {
        replay.enter([id; 32], [body; 32], Instant::now())
    }

    #[test]
    fn repeats_join_the_first_and_another_body_is_refused() {
        let replay = Replay::new(Duration::from_secs(60), 8);
        let Entry::New(ticket, first) = enter(&replay, 1, 1) else { panic!("not new") };
        let Entry::Same(second) = enter(&replay, 1, 1) else { panic!("not the same") };
        assert!(matches!(enter(&replay, 1, 2), Entry::Reused));
        ticket.finish(fault());
        assert!(first.borrow().is_some() && second.borrow().is_some());
        assert!(matches!(enter(&replay, 1, 2), Entry::New(..)), "a fault is not kept");
    }

    #[test]
    fn a_request_is_forgotten_once_nobody_waits_and_not_before() {
        let replay = Replay::new(Duration::from_secs(60), 8);
        let Entry::New(mut ticket, first) = enter(&replay, 1, 1) else { panic!("not new") };
        let Entry::Same(second) = enter(&replay, 1, 1) else { panic!("not the same") };
        drop(first);
        assert!(!ticket.forget_if_unheard(), "the second one waits");
        drop(second);
        assert!(ticket.forget_if_unheard());
        let Entry::New(newer, _line) = enter(&replay, 1, 2) else { panic!("not new") };
        drop(ticket);
        assert!(
            matches!(enter(&replay, 1, 2), Entry::Same(_)),
            "the old ticket does not end the new request"
        );
        drop(newer);
        let (mut ticket, line) = replay.anonymous();
        assert!(!ticket.forget_if_unheard());
        drop(line);
        assert!(ticket.forget_if_unheard());
    }

    #[test]
    fn a_lost_ticket_answers_and_leaves_nothing_behind() {
        let replay = Replay::new(Duration::from_secs(60), 8);
        let Entry::New(ticket, line) = enter(&replay, 1, 1) else { panic!("not new") };
        drop(ticket);
        assert!(
            matches!(&*line.borrow().clone().unwrap(), Outcome::Fault(f) if f.code == FaultCode::EngineFailed)
        );
        assert!(matches!(enter(&replay, 1, 9), Entry::New(..)));
    }

    #[test]
    fn answers_are_kept_for_a_while_and_never_more_than_a_number() {
        let replay = Replay::new(Duration::from_millis(0), 8);
        let Entry::New(ticket, _) = enter(&replay, 1, 1) else { panic!("not new") };
        ticket.finish(super::super::tests::an_answer());
        let later = Instant::now() + Duration::from_millis(5);
        assert!(matches!(replay.enter([1; 32], [1; 32], later), Entry::New(..)));
        let few = Replay::new(Duration::from_secs(60), 2);
        for id in 0..9 {
            let Entry::New(ticket, _) = enter(&few, id, 1) else { panic!("not new") };
            ticket.finish(super::super::tests::an_answer());
        }
        assert!(few.locked(|table| table.by_id.len()) <= 4);
        assert!(matches!(enter(&few, 8, 1), Entry::Same(_)));
    }
}
