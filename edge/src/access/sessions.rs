//! Sessions of whoever signed in on the page with a token: in memory alone, few, short, and over as soon as the token is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Identity;
use crate::keys::{self, KeyError};

/// Most sessions at once; above it the one that was used longest ago ends.
const MOST: usize = 256;
/// Of these, of one name.
const OF_ONE: usize = 16;

/// Everybody who is signed in. A restart of the daemon ends all of them.
#[derive(Debug)]
pub(crate) struct Sessions {
    idle: Duration,
    longest: Duration,
    /// By the SHA-256 of the secret, which only the browser holds.
    open: Mutex<HashMap<[u8; 32], Session>>,
}

#[derive(Debug)]
struct Session {
    identity: Identity,
    begun: Instant,
    used: Instant,
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

impl Sessions {
    /// A session ends after `idle` without an order, and after `longest` in any case.
    pub(crate) fn new(idle: Duration, longest: Duration) -> Self {
        Self { idle, longest, open: Mutex::default() }
    }

    /// The sessions that count at a time.
    fn at(&self, now: Instant) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, one| {
            now.duration_since(one.used) < self.idle && now.duration_since(one.begun) < self.longest
        });
        open
    }

    /// Begins one; its secret.
    ///
    /// # Errors
    /// The machine gives no random numbers.
    pub(crate) fn begin(&self, identity: Identity, now: Instant) -> Result<Zeroizing<String>, KeyError> {
        let secret = Zeroizing::new(hex::encode(*keys::random::<32>()?));
        let mut open = self.at(now);
        let name = Arc::clone(&identity.name);
        let mine = open.values().filter(|one| one.identity.name == name).count();
        let crowded = |one: &Session| mine < OF_ONE || one.identity.name == name;
        if mine >= OF_ONE || open.len() >= MOST {
            let oldest = open.iter().filter(|(_, one)| crowded(one)).min_by_key(|(_, one)| one.used);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                open.remove(&oldest);
            }
        }
        open.insert(digest(&secret), Session { identity, begun: now, used: now });
        Ok(secret)
    }

    /// Whose a secret is; an order keeps the session open, a look does not.
    pub(crate) fn find(&self, secret: &str, now: Instant, orders: bool) -> Option<Identity> {
        let mut open = self.at(now);
        let one = open.get_mut(&digest(secret))?;
        if orders {
            one.used = now;
        }
        Some(one.identity.clone())
    }

    /// Ends one.
    pub(crate) fn end(&self, secret: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest(secret));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;

    const IDLE: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(25);

    fn somebody(name: &str) -> Identity {
        Identity { name: name.into(), role: Role::Terminal, credential: Some([name.len() as u8; 32]) }
    }

    fn name(sessions: &Sessions, secret: &str, now: Instant, orders: bool) -> Option<String> {
        sessions.find(secret, now, orders).map(|one| one.name.to_string())
    }

    #[test]
    fn a_session_ends_when_nobody_orders_and_in_any_case_after_its_longest_time() {
        let (sessions, start) = (Sessions::new(IDLE, LONGEST), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let secret = sessions.begin(somebody("a"), start).unwrap();
        assert_eq!(secret.len(), 64);
        assert_eq!(name(&sessions, &secret, at(9), false).as_deref(), Some("a"));
        assert_eq!(name(&sessions, &secret, at(10), false), None, "to look is not to use");
        let secret = sessions.begin(somebody("a"), start).unwrap();
        for seconds in [9, 18, 24] {
            assert_eq!(name(&sessions, &secret, at(seconds), true).as_deref(), Some("a"), "{seconds}");
        }
        assert_eq!(name(&sessions, &secret, at(25), true), None);
        assert_eq!(name(&sessions, &"0".repeat(64), start, true), None);
        let secret = sessions.begin(somebody("b"), start).unwrap();
        sessions.end(&secret);
        assert_eq!(name(&sessions, &secret, start, true), None);
    }

    #[test]
    fn sessions_are_bounded_and_one_name_ends_only_its_own() {
        let (sessions, start) = (Sessions::new(IDLE, LONGEST), Instant::now());
        let first = sessions.begin(somebody("other"), start).unwrap();
        let now = start + Duration::from_secs(1);
        let mine: Vec<_> = (0..=OF_ONE).map(|_| sessions.begin(somebody("a"), now).unwrap()).collect();
        let open = mine.iter().filter(|secret| name(&sessions, secret, now, false).is_some()).count();
        assert_eq!(open, OF_ONE);
        assert_eq!(name(&sessions, &first, now, false).as_deref(), Some("other"));
        for n in 0..MOST {
            sessions.begin(somebody(&format!("n{n}")), now).unwrap();
        }
        assert_eq!(sessions.at(now).len(), MOST);
        assert_eq!(name(&sessions, &first, now, false), None, "it was used longest ago");
    }
}
