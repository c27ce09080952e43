//! Time as something that is handed in, so that tests decide what it is.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicU64, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// What time it is.
pub trait Clock: Send + Sync + Debug {
    /// Wall clock, milliseconds since 1970-01-01 UTC. May step backwards: nothing is ordered by it.
    fn unix_ms(&self) -> u64;

    /// Milliseconds since an arbitrary start; never goes backwards.
    fn monotonic_ms(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Monotonic time starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

fn whole_ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Clock for SystemClock {
    fn unix_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, whole_ms)
    }

    fn monotonic_ms(&self) -> u64 {
        whole_ms(self.start.elapsed())
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct ManualClock {
    unix_ms: AtomicU64,
    monotonic_ms: AtomicU64,
}

impl ManualClock {
    /// Stands at a wall-clock time.
    pub fn new(unix_ms: u64) -> Self {
        Self { unix_ms: AtomicU64::new(unix_ms), monotonic_ms: AtomicU64::new(0) }
    }

    /// Lets time pass on both clocks.
    pub fn advance_ms(&self, by: u64) {
        self.unix_ms.fetch_add(by, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(by, Ordering::SeqCst);
    }

    /// Steps the wall clock, as an operator or NTP does; monotonic time is not touched.
    pub fn set_unix_ms(&self, to: u64) {
        self.unix_ms.store(to, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_ms(&self) -> u64 {
        self.unix_ms.load(Ordering::SeqCst)
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stepping_the_wall_clock_leaves_monotonic_time_alone() {
        let clock = ManualClock::new(1_000);
        clock.advance_ms(5);
        clock.set_unix_ms(10);
        assert_eq!((clock.unix_ms(), clock.monotonic_ms()), (10, 5));
        let system = SystemClock::new();
        assert!(system.unix_ms() > 1_700_000_000_000);
        assert!(system.monotonic_ms() <= system.monotonic_ms());
    }
}
