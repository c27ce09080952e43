//! Whether the client of the broker still moves.
//!
//! A connection can answer pings and do nothing else: a broker that acknowledges no more, a state of the client that
//! waits for a packet that never comes. Then nobody is answered and nothing looks wrong.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What is expected of the broker, and since when nothing of it came.
#[derive(Debug)]
pub(super) struct Progress {
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Publications that are not acknowledged; what a broker acknowledges twice is counted once.
    unacknowledged: u64,
    /// Connected, and the subscription is not confirmed.
    subscribing: bool,
    connected: bool,
    moved: Instant,
}

impl Progress {
    pub(super) fn new(patience: Duration) -> Self {
        let state = State { unacknowledged: 0, subscribing: false, connected: false, moved: Instant::now() };
        Self { patience, state: Mutex::new(state) }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn moved(&self, change: impl FnOnce(&mut State)) {
        self.change(|state| {
            change(state);
            state.moved = Instant::now();
        });
    }

    pub(super) fn connected(&self) {
        self.moved(|state| (state.connected, state.subscribing) = (true, true));
    }

    /// Without a connection nothing is expected: reaching the broker again has its own clock.
    pub(super) fn disconnected(&self) {
        self.moved(|state| state.connected = false);
    }

    pub(super) fn subscribed(&self) {
        self.moved(|state| state.subscribing = false);
    }

    pub(super) fn published(&self) {
        self.change(|state| {
            // The wait begins with the first.
            if state.unacknowledged == 0 {
                state.moved = Instant::now();
            }
            state.unacknowledged += 1;
        });
    }

    pub(super) fn acknowledged(&self) {
        self.moved(|state| state.unacknowledged = state.unacknowledged.saturating_sub(1));
    }

    /// Whether something has been expected all the time and nothing came.
    pub(super) fn is_stalled(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let expecting = state.connected && (state.subscribing || state.unacknowledged > 0);
        expecting && state.moved.elapsed() >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connection_that_owes_something_stalls() {
        let progress = Progress::new(Duration::ZERO);
        assert!(!progress.is_stalled(), "not connected yet");
        progress.connected();
        assert!(progress.is_stalled(), "no confirmation of the subscription");
        progress.subscribed();
        assert!(!progress.is_stalled(), "nothing is owed");
        progress.published();
        progress.published();
        progress.acknowledged();
        assert!(progress.is_stalled(), "one acknowledgement is owed");
        progress.disconnected();
        assert!(!progress.is_stalled(), "the broker is away, which is another matter");
        progress.connected();
        progress.subscribed();
        assert!(progress.is_stalled());
        progress.acknowledged();
        assert!(!progress.is_stalled());
        let patient = Progress::new(Duration::from_secs(3_600));
        patient.connected();
        assert!(!patient.is_stalled(), "not yet");
    }
}
