//! How much is taken at once. Work is counted, not messages, and until it is answered.

use std::sync::Arc;

use locus_firmware_config::message::Lane;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a message that cost one unit more.
const BYTES_PER_UNIT: usize = 8 << 10;

/// Units of work over all lanes; the batch lane gets three quarters of them, so that it never keeps a bedside out.
#[derive(Debug)]
pub(super) struct Admission {
    all: Arc<Semaphore>,
    batch: Arc<Semaphore>,
    limit: u32,
}

/// A request's share, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Units {
    _all: OwnedSemaphorePermit,
    _batch: Option<OwnedSemaphorePermit>,
}

const fn batch_limit(limit: u32) -> u32 {
    let most = limit - limit / 4;
    // The smallest box answers its batches too.
    if most > 1 && most == limit { limit - 1 } else { most }
}

impl Admission {
    pub(super) fn new(limit: u32) -> Self {
        let batch = Semaphore::new(batch_limit(limit) as usize);
        Self { all: Arc::new(Semaphore::new(limit as usize)), batch: Arc::new(batch), limit }
    }

    /// Takes a request of so many bytes; `None` where it has to wait. One that costs more than all there is costs
    /// all there is.
    pub(super) fn enter(&self, bytes: usize, lane: Lane) -> Option<Units> {
        let units = u32::try_from(1 + bytes / BYTES_PER_UNIT).unwrap_or(u32::MAX);
        let take =
            |from: &Arc<Semaphore>, most: u32| Arc::clone(from).try_acquire_many_owned(units.min(most)).ok();
        let batch = match lane {
            Lane::Batch => Some(take(&self.batch, self.limit(lane))?),
            Lane::Bedside => None,
        };
        Some(Units { _all: take(&self.all, self.limit)?, _batch: batch })
    }

    /// Most units of a lane.
    pub(super) const fn limit(&self, lane: Lane) -> u32 {
        match lane {
            Lane::Bedside => self.limit,
            Lane::Batch => batch_limit(self.limit),
        }
    }

    /// Units that are waiting, running or being kept, over all lanes.
    pub(super) fn taken(&self) -> u32 {
        self.limit.saturating_sub(u32::try_from(self.all.available_permits()).unwrap_or(u32::MAX))
    }

    /// Waits until all that was taken is answered.
    pub(super) async fn drained(&self) {
        let _ = self.all.acquire_many(self.limit).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_leaves_room_for_a_bedside() {
        for limit in 2..20 {
            let admission = Admission::new(limit);
            let batch: Vec<_> = std::iter::from_fn(|| admission.enter(0, Lane::Batch)).collect();
            assert!(!batch.is_empty() && batch.len() < limit as usize, "{limit}");
            assert!(admission.enter(0, Lane::Bedside).is_some(), "{limit}");
            drop(batch);
            assert_eq!(admission.taken(), 0);
            let bedside: Vec<_> = std::iter::from_fn(|| admission.enter(0, Lane::Bedside)).collect();
            assert_eq!(bedside.len(), limit as usize, "the bedside may have it all");
        }
        assert!(Admission::new(1).enter(0, Lane::Batch).is_some());
    }

    #[test]
    fn the_longest_message_fits_the_smallest_box() {
        let admission = Admission::new(2);
        let heavy = admission.enter(60_000, Lane::Bedside);
        assert!(heavy.is_some() && admission.taken() == 2);
        assert!(admission.enter(0, Lane::Bedside).is_none());
        drop(heavy);
        assert!(admission.enter(60_000, Lane::Batch).is_some());
    }
}
