//! Time as something that is handed in, so that tests decide what it is.

use std::{
    fmt::Debug,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

/// No box had this program earlier (2026-01-01).
const RELEASE_UNIX_MS: u64 = 1_767_225_600_000;
/// How far the clock may be behind the last record when the box starts, in milliseconds: a real-time clock drifts.
const BEHIND_MS: u64 = 60_000;
/// How far the clock may move between two looks, beside the time that passed, in milliseconds; and as a share of that
/// time, twice what a kernel slews.
const MOVED_MS: u64 = 2_000;
const MOVED_SHARE: u64 = 1_000;

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

/// A time, and whether it is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
    /// Whether nothing speaks against it.
    pub trusted: bool,
}

/// What speaks against a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// It reads an earlier time than this program's release: a box without a battery.
    BeforeRelease,
    /// It reads an earlier time than the last record.
    BeforeLastRecord,
    /// It jumped while the box ran.
    Stepped,
    /// The system has not set it by a server since it started.
    NotSynchronised,
}

impl Doubt {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeforeRelease => "it reads an earlier time than the release of this program",
            Self::BeforeLastRecord => "it reads an earlier time than the last record of the journal",
            Self::Stepped => "it jumped while the box ran",
            Self::NotSynchronised => "the system has not set it by a time server since it started",
        }
    }
}

#[derive(Debug, Default)]
struct Watched {
    /// Wall clock less monotonic clock, and the latter, when it was last believed.
    believed: Option<(i128, u64)>,
    doubt: Option<Doubt>,
    /// How often it became untrusted.
    doubts: u64,
}

/// Says whether the wall clock is to be believed. A box without a battery, a battery that is empty or an operator's
/// typing error must not pass for the time of a result: what is written meanwhile is flagged, and ordered by its index.
#[derive(Debug, Clone)]
pub struct ClockWatch {
    clock: Arc<dyn Clock>,
    last_record_ms: u64,
    /// Where the system says that it has set its clock, such as `/run/systemd/timesync/synchronized`.
    synchronized: Option<PathBuf>,
    state: Arc<Mutex<Watched>>,
}

impl ClockWatch {
    /// Watches a clock; `last_record_ms` is the time of the last record that was written while it was trusted.
    pub fn new(clock: Arc<dyn Clock>, last_record_ms: u64, synchronized: Option<PathBuf>) -> Self {
        let watch = Self { clock, last_record_ms, synchronized, state: Arc::default() };
        watch.now();
        watch
    }

    /// What time it is.
    pub fn now(&self) -> Now {
        let (unix_ms, monotonic_ms) = (self.clock.unix_ms(), self.clock.monotonic_ms());
        let offset = i128::from(unix_ms) - i128::from(monotonic_ms);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stepped = state.believed.is_some_and(|(believed, at)| {
            let may = MOVED_MS + monotonic_ms.saturating_sub(at) / MOVED_SHARE;
            (offset - believed).unsigned_abs() > u128::from(may)
        });
        let doubt = if stepped {
            Some(Doubt::Stepped)
        } else if unix_ms < RELEASE_UNIX_MS {
            Some(Doubt::BeforeRelease)
        } else if state.believed.is_none() && unix_ms.saturating_add(BEHIND_MS) < self.last_record_ms {
            Some(Doubt::BeforeLastRecord)
        } else if self.synchronized.as_ref().is_some_and(|path| !path.exists()) {
            Some(Doubt::NotSynchronised)
        } else {
            None
        };
        if doubt.is_none() {
            state.believed = Some((offset, monotonic_ms));
        }
        if state.doubt.is_none() && doubt.is_some() {
            state.doubts += 1;
        }
        state.doubt = doubt;
        Now { unix_ms, trusted: doubt.is_none() }
    }

    /// What speaks against it; none where it is trusted.
    pub fn doubt(&self) -> Option<Doubt> {
        self.now();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).doubt
    }

    /// How often it became untrusted.
    pub fn doubts(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).doubts
    }

    /// Believes what it reads now, because an operator looked at it.
    pub fn accept(&self) -> Option<Doubt> {
        let (unix_ms, monotonic_ms) = (self.clock.unix_ms(), self.clock.monotonic_ms());
        self.state.lock().unwrap_or_else(PoisonError::into_inner).believed =
            Some((i128::from(unix_ms) - i128::from(monotonic_ms), monotonic_ms));
        self.doubt()
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

    const NOW: u64 = 1_790_000_000_000;
    const YEAR: u64 = 365 * 86_400_000;

    #[test]
    fn a_clock_is_doubted_when_it_jumps_and_trusted_when_it_comes_back() {
        let clock = Arc::new(ManualClock::new(NOW));
        let watch = ClockWatch::new(clock.clone(), NOW, None);
        assert_eq!(watch.doubt(), None);
        for _ in 0..100 {
            // Slewing is no jump, however long it goes on.
            clock.advance_ms(3_600_000);
            clock.set_unix_ms(clock.unix_ms() - 1_800);
            assert_eq!(watch.doubt(), None);
        }
        let right = clock.unix_ms();
        for (to, doubt) in [
            (right + 10 * YEAR, Doubt::Stepped),
            (right - 10 * YEAR, Doubt::Stepped),
            (0, Doubt::Stepped),
            (right - 5_000, Doubt::Stepped),
        ] {
            clock.set_unix_ms(to);
            assert_eq!((watch.now().trusted, watch.doubt()), (false, Some(doubt)));
            clock.advance_ms(100);
            assert_eq!(watch.doubt(), Some(doubt), "time alone does not heal");
            clock.set_unix_ms(right);
            assert_eq!(watch.doubt(), None, "back from {to}");
        }
        assert_eq!(watch.doubts(), 4);
        clock.set_unix_ms(right + YEAR);
        assert_eq!((watch.doubt(), watch.accept()), (Some(Doubt::Stepped), None));
    }

    #[test]
    fn a_box_without_a_battery_is_doubted_until_its_clock_is_set() {
        let folder = tempfile::tempdir().unwrap();
        let synchronized = folder.path().join("synchronized");
        let clock = Arc::new(ManualClock::new(5));
        let watch = ClockWatch::new(clock.clone(), NOW, Some(synchronized.clone()));
        assert_eq!(watch.doubt(), Some(Doubt::BeforeRelease));
        assert_eq!(watch.accept(), Some(Doubt::BeforeRelease), "nobody looked at 1970");
        let watch = ClockWatch::new(clock.clone(), NOW, Some(synchronized.clone()));
        clock.set_unix_ms(NOW - 2 * BEHIND_MS);
        assert_eq!(watch.doubt(), Some(Doubt::BeforeLastRecord));
        clock.set_unix_ms(NOW - BEHIND_MS);
        assert_eq!(watch.doubt(), Some(Doubt::NotSynchronised));
        std::fs::write(&synchronized, "").unwrap();
        assert_eq!((watch.doubt(), watch.now().trusted), (None, true));
        assert_eq!(watch.doubts(), 1);
    }

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
