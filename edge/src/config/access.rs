//! Who may use the box over a network.

use serde::{Deserialize, Serialize};

use super::Problem;

/// Who may use the box over a network.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Whether anybody on this machine may ask and look without credentials, to try the box out. Every listener must
    /// then be on loopback.
    pub anonymous: bool,
    /// After so long without an order whoever signed in on the page with a token is signed out.
    pub session_idle_ms: u64,
    /// After so long in any case.
    pub session_ms: u64,
}

impl Default for Access {
    fn default() -> Self {
        Self { anonymous: false, session_idle_ms: 900_000, session_ms: 43_200_000 }
    }
}

impl Access {
    pub(super) fn problem(&self) -> Option<Problem> {
        const LONGEST: u64 = 7 * 86_400_000;
        Problem::first([
            (
                (1_000..=self.session_ms).contains(&self.session_idle_ms),
                "access.session_idle_ms",
                self.session_idle_ms.to_string(),
                "1_000 or more, and session_ms at most",
            ),
            (
                self.session_ms <= LONGEST,
                "access.session_ms",
                self.session_ms.to_string(),
                "604_800_000 at most, a week",
            ),
        ])
    }
}
