//! Turns at the embedded broker: a terminal that asks faster than it is answered waits, alone, instead of filling the
//! queue of the box, from which the broker would drop the requests of others.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mqtt5::broker::events::{BrokerEventHandler, ClientPublishEvent, PublishAction};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::names::terminal_of;

/// Requests of one terminal on their way at once.
const AT_ONCE: usize = 64;
/// A request that has no outcome after this, such as one that expired, counts no longer.
const FORGOTTEN: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Asked {
    at: VecDeque<Instant>,
    answered: Arc<Notify>,
}

/// What each terminal has asked and was not answered yet.
pub(super) struct Turns {
    site: String,
    forgotten: Duration,
    terminals: Mutex<HashMap<String, Asked>>,
}

impl Turns {
    pub(super) fn new(site: &str) -> Self {
        Self { site: site.to_owned(), forgotten: FORGOTTEN, terminals: Mutex::default() }
    }

    /// Waits until a terminal may ask one more.
    async fn ask(&self, terminal: &str) {
        loop {
            let (answered, until) = {
                let mut terminals = self.terminals.lock().unwrap_or_else(PoisonError::into_inner);
                let asked = terminals.entry(terminal.to_owned()).or_default();
                let now = Instant::now();
                while asked.at.front().is_some_and(|at| *at + self.forgotten <= now) {
                    asked.at.pop_front();
                }
                match asked.at.front() {
                    Some(first) if asked.at.len() >= AT_ONCE => {
                        (Arc::clone(&asked.answered).notified_owned(), *first + self.forgotten)
                    }
                    _ => return asked.at.push_back(now),
                }
            };
            let _ = timeout_at(until, pin!(answered)).await;
        }
    }

    fn answered(&self, terminal: &str) {
        let mut terminals = self.terminals.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(asked) = terminals.get_mut(terminal) else { return };
        asked.at.pop_front();
        asked.answered.notify_waiters();
        if asked.at.is_empty() {
            terminals.remove(terminal);
        }
    }

    /// The terminal that an answer's topic names.
    fn answered_one<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let rest = topic.strip_prefix("locus/v1/")?.strip_prefix(self.site.as_str())?;
        rest.strip_prefix("/response/")?.split('/').next()
    }
}

impl BrokerEventHandler for Turns {
    /// Nobody but boxes publishes answers: the access list was asked before.
    fn on_client_publish<'a>(
        &'a self,
        event: ClientPublishEvent,
    ) -> Pin<Box<dyn Future<Output = PublishAction> + Send + 'a>> {
        Box::pin(async move {
            if let Some(terminal) = terminal_of(&self.site, &event.topic) {
                self.ask(terminal).await;
            } else if let Some(terminal) = self.answered_one(&event.topic) {
                self.answered(terminal);
            }
            PublishAction::Continue
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn who_asks_too_much_waits_alone_until_an_answer_or_the_end_of_patience() {
        let turns = Turns { forgotten: Duration::from_secs(2), ..Turns::new("s") };
        let (soon, late) = (Duration::from_millis(50), Duration::from_secs(60));
        for _ in 0..AT_ONCE {
            timeout(late, turns.ask("rude")).await.expect("there is room");
        }
        assert!(timeout(soon, turns.ask("rude")).await.is_err(), "it waits");
        timeout(late, turns.ask("polite")).await.expect("others do not");
        let (mut waits, topic) = (Box::pin(turns.ask("rude")), "locus/v1/s/response/rude/1");
        assert!(timeout(soon, &mut waits).await.is_err());
        turns.answered(turns.answered_one(topic).expect("an answer"));
        timeout(late, waits).await.expect("an answer makes room");
        timeout(late, turns.ask("rude")).await.expect("what is never answered is forgotten");
        for _ in 0..2 * AT_ONCE {
            turns.answered("rude");
            turns.answered("polite");
        }
        assert!(turns.terminals.lock().expect("whole").is_empty(), "who asks nothing takes no room");
        assert_eq!(turns.answered_one("locus/v1/other/response/rude"), None);
    }
}
