//! How much is taken at once. Work is counted, not messages, and until it is answered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use locus_firmware_config::message::Lane;
use tokio::sync::Notify;

/// Bytes of a message that cost one unit more.
const BYTES_PER_UNIT: usize = 8 << 10;

/// Units of work over all lanes. Nobody gets them all: the batch lane and each transport three quarters, each terminal a
/// half, so that a flood on one side keeps nobody out on another.
#[derive(Debug)]
pub(super) struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: u32,
    taken: Mutex<Taken>,
    idle: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    all: u32,
    batch: u32,
    transports: HashMap<&'static str, u32>,
    terminals: HashMap<String, u32>,
}

/// A request's share, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Units {
    of: Arc<Inner>,
    units: u32,
    lane: Lane,
    transport: &'static str,
    terminal: String,
}

/// Who has to wait: units that wait already, units that may, and whose they are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) taken: u32,
    pub(super) limit: u32,
    pub(super) whose: &'static str,
}

const fn three_quarters(limit: u32) -> u32 {
    let most = limit - limit / 4;
    // The smallest box answers its batches too.
    if most > 1 && most == limit { limit - 1 } else { most }
}

const fn half(limit: u32) -> u32 {
    if limit > 1 { limit / 2 } else { 1 }
}

impl Admission {
    pub(super) fn new(limit: u32) -> Self {
        Self(Arc::new(Inner { limit, taken: Mutex::default(), idle: Notify::new() }))
    }

    /// Takes a request of so many bytes. One that costs more than its share costs its share.
    ///
    /// # Errors
    /// Which share is taken.
    pub(super) fn enter(
        &self,
        bytes: usize,
        lane: Lane,
        transport: &'static str,
        terminal: &str,
    ) -> Result<Units, Full> {
        let limit = self.0.limit;
        let units = u32::try_from(1 + bytes / BYTES_PER_UNIT).unwrap_or(u32::MAX).min(half(limit));
        self.0.locked(|taken| {
            let of_terminal = taken.terminals.get(terminal).copied().unwrap_or(0);
            let of_transport = taken.transports.get(transport).copied().unwrap_or(0);
            let of_batch = if lane == Lane::Batch { taken.batch } else { 0 };
            let shares = [
                (of_terminal, half(limit), "of this terminal"),
                (of_transport, three_quarters(limit), "of this transport"),
                (of_batch, three_quarters(limit), "of the batch lane"),
                (taken.all, limit, "in all"),
            ];
            if let Some((taken, limit, whose)) =
                shares.into_iter().find(|(taken, limit, _)| taken + units > *limit)
            {
                return Err(Full { taken, limit, whose });
            }
            taken.all += units;
            if lane == Lane::Batch {
                taken.batch += units;
            }
            *taken.transports.entry(transport).or_default() += units;
            *taken.terminals.entry(terminal.to_owned()).or_default() += units;
            let (of, terminal) = (Arc::clone(&self.0), terminal.to_owned());
            Ok(Units { of, units, lane, transport, terminal })
        })
    }

    /// Units that are waiting, running or being kept.
    pub(super) fn taken(&self) -> u32 {
        self.0.locked(|taken| taken.all)
    }

    /// Waits until all that was taken is answered.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.0.idle.notified();
            if self.taken() == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Units {
    /// How many these are.
    pub(super) const fn count(&self) -> u32 {
        self.units
    }
}

impl Inner {
    fn locked<T>(&self, change: impl FnOnce(&mut Taken) -> T) -> T {
        change(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        let idle = self.of.locked(|taken| {
            taken.all -= self.units;
            if self.lane == Lane::Batch {
                taken.batch -= self.units;
            }
            give_back(&mut taken.transports, self.transport, self.units);
            give_back(&mut taken.terminals, self.terminal.as_str(), self.units);
            taken.all == 0
        });
        if idle {
            self.of.idle.notify_waiters();
        }
    }
}

/// Names stay only while they hold something: terminals may call themselves anything.
fn give_back<K, Q>(shares: &mut HashMap<K, u32>, name: &Q, units: u32)
where
    K: std::hash::Hash + Eq + std::borrow::Borrow<Q>,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if let Some(share) = shares.get_mut(name) {
        *share -= units;
        if *share == 0 {
            shares.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(admission: &Admission, lane: Lane, transport: &'static str, terminals: &[&str]) -> Vec<Units> {
        let mut units = Vec::new();
        for terminal in terminals {
            while let Ok(one) = admission.enter(0, lane, transport, terminal) {
                units.push(one);
            }
        }
        units
    }

    #[test]
    fn a_batch_leaves_room_for_a_bedside() {
        for limit in 2..20 {
            let admission = Admission::new(limit);
            let batch = fill(&admission, Lane::Batch, "http", &["a", "b", "c"]);
            assert!(!batch.is_empty() && batch.len() < limit as usize, "{limit}");
            assert!(admission.enter(0, Lane::Bedside, "mqtt", "d").is_ok(), "{limit}");
            drop(batch);
            assert_eq!(admission.taken(), 0);
        }
        assert!(Admission::new(1).enter(0, Lane::Batch, "http", "a").is_ok());
    }

    #[test]
    fn no_terminal_and_no_transport_keeps_another_out() {
        for limit in 4..40 {
            let admission = Admission::new(limit);
            let one = fill(&admission, Lane::Bedside, "mqtt", &["flood"]);
            assert_eq!(one.len(), half(limit) as usize);
            let full = admission.enter(0, Lane::Bedside, "mqtt", "flood").unwrap_err();
            assert_eq!((full.taken, full.whose), (half(limit), "of this terminal"));
            let many = fill(&admission, Lane::Bedside, "mqtt", &["a", "b"]);
            assert_eq!((one.len() + many.len()) as u32, three_quarters(limit), "one transport alone");
            assert_eq!(
                admission.enter(0, Lane::Bedside, "mqtt", "c").unwrap_err().whose,
                "of this transport"
            );
            let others = fill(&admission, Lane::Bedside, "http", &["a", "c"]);
            assert_eq!(admission.taken(), limit, "together they may have it all");
            assert!(!others.is_empty(), "a flood over MQTT keeps nobody out at the page");
            drop((one, many, others));
            assert_eq!(admission.0.locked(|taken| (taken.terminals.len(), taken.transports.len())), (0, 0));
        }
    }

    #[test]
    fn the_longest_message_fits_the_smallest_box() {
        let admission = Admission::new(2);
        let heavy = admission.enter(60_000, Lane::Bedside, "http", "a").unwrap();
        assert!(admission.taken() > 0 && admission.enter(0, Lane::Bedside, "http", "a").is_err());
        drop(heavy);
        assert!(admission.enter(60_000, Lane::Batch, "http", "a").is_ok());
    }

    #[tokio::test]
    async fn a_box_is_drained_once_the_last_share_is_given_back() {
        let admission = Arc::new(Admission::new(4));
        let units = admission.enter(0, Lane::Bedside, "http", "a").unwrap();
        let waiting = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.drained().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(units);
        waiting.await.unwrap();
        admission.drained().await;
    }
}
