//! How much room is left, and for how long.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::vfs::Vfs;

/// Time over which growth is averaged, in milliseconds: a week has its weekend.
const WINDOW_MS: f64 = 7.0 * DAY_MS;
const DAY_MS: f64 = 86_400_000.0;
/// Most bytes that are asked for beyond the reserve before anything is taken again.
const MARGIN: u64 = 64 << 20;
/// Least time of which a rate is said.
const KNOWN_MS: f64 = 600_000.0;

/// Bytes and the time in which they came, both fading out with age.
#[derive(Debug, Default)]
struct Growth {
    bytes: f64,
    ms: f64,
    at_ms: u64,
}

/// What the journal thread sees of the disk, for every other thread; clones share it.
#[derive(Debug, Clone)]
pub struct Space {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    reserve: u64,
    free: AtomicU64,
    short: AtomicBool,
    growth: Mutex<Growth>,
}

impl Space {
    /// `seed` is what is known of the growth so far: bytes, and milliseconds in which they came.
    pub(super) fn new(
        vfs: Arc<dyn Vfs>,
        dir: PathBuf,
        reserve: u64,
        (bytes, ms): (u64, u64),
        now_ms: u64,
    ) -> Self {
        let growth = Growth { bytes: bytes as f64, ms: ms as f64, at_ms: now_ms };
        let shared = Shared {
            vfs,
            dir,
            reserve,
            free: AtomicU64::new(u64::MAX),
            short: AtomicBool::new(false),
            growth: Mutex::new(growth),
        };
        let space = Self { shared: Arc::new(shared) };
        space.look(now_ms);
        space
    }

    /// Asks the system how much is free; below the reserve nothing new is taken until an eighth more
    /// than it is free, or 64 MiB.
    pub(super) fn look(&self, now_ms: u64) {
        let shared = &self.shared;
        self.grew(0, now_ms);
        // A system that does not say is no reason to refuse anybody: a write that fails stops the box as ever.
        let Ok(free) = shared.vfs.free_bytes(&shared.dir) else { return };
        let margin = if self.short() { (shared.reserve / 8).min(MARGIN) } else { 0 };
        let needed = shared.reserve.saturating_add(margin);
        shared.free.store(free, Ordering::Relaxed);
        shared.short.store(free < needed, Ordering::Release);
    }

    /// So many bytes were written.
    pub(super) fn grew(&self, bytes: u64, now_ms: u64) {
        let mut growth = self.shared.growth.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now_ms.saturating_sub(growth.at_ms) as f64;
        let kept = (-passed / WINDOW_MS).exp();
        *growth = Growth {
            bytes: growth.bytes * kept + bytes as f64,
            ms: growth.ms * kept + passed,
            at_ms: now_ms.max(growth.at_ms),
        };
    }

    /// Whether the reserve is touched: nothing new is taken.
    pub fn short(&self) -> bool {
        self.shared.short.load(Ordering::Acquire)
    }

    /// Bytes that are free where the journal lies, as last seen; none where the system does not say.
    pub fn free_bytes(&self) -> Option<u64> {
        let free = self.shared.free.load(Ordering::Relaxed);
        (free != u64::MAX).then_some(free)
    }

    /// Bytes that are kept free.
    pub fn reserve_bytes(&self) -> u64 {
        self.shared.reserve
    }

    /// Bytes that the journal grows by in a day; none before ten minutes are known.
    pub fn bytes_per_day(&self) -> Option<f64> {
        let growth = self.shared.growth.lock().unwrap_or_else(PoisonError::into_inner);
        (growth.ms >= KNOWN_MS).then(|| growth.bytes / growth.ms * DAY_MS)
    }

    /// Days until the reserve is touched, if it goes on as it did; none where that is not known, or never.
    pub fn days_left(&self) -> Option<f64> {
        let (free, rate) = (self.free_bytes()?, self.bytes_per_day()?);
        (rate > 0.0).then(|| free.saturating_sub(self.shared.reserve) as f64 / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::FaultyVfs;

    #[test]
    fn days_are_forecast_from_what_came_and_the_reserve_has_a_margin() {
        let vfs = FaultyVfs::new();
        let space = |seed| Space::new(Arc::new(vfs.clone()), "/j".into(), 1000, seed, 0);
        vfs.set_free_bytes(11_000);
        let fresh = space((0, 0));
        assert_eq!((fresh.days_left(), fresh.free_bytes(), fresh.short()), (None, Some(11_000), false));
        fresh.grew(5_000, 43_200_000);
        let days = fresh.days_left().unwrap();
        assert!((days - 1.0).abs() < 0.01, "half a day, 5,000 bytes; 10,000 are left: {days}");
        let seeded = space((100, 86_400_000));
        assert!((seeded.days_left().unwrap() - 100.0).abs() < 1.0);
        // What was long ago counts little.
        for day in 1..60 {
            seeded.grew(1_000, day * 86_400_000);
        }
        assert!((seeded.days_left().unwrap() - 10.0).abs() < 0.5);
        for (free, short) in [(999, true), (1_000, true), (1_124, true), (1_125, false), (1_000, false)] {
            vfs.set_free_bytes(free);
            seeded.look(60 * 86_400_000);
            assert_eq!(seeded.short(), short, "{free}");
        }
        assert_eq!(seeded.days_left(), Some(0.0));
    }
}
