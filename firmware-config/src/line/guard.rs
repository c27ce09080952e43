//! Which frames of a line with a key are taken: those that were made with it, in this session, and whole messages once.

use crate::wire::{CHALLENGE_BYTES, Direction, Frame, Key};

/// A frame that is not taken, and why: the label of a counter.
pub(super) type Refused = &'static str;

/// A session of a line with a key.
struct Session {
    number: u32,
    key: Key,
    /// Of the last whole message. Numbers only grow.
    last: Option<u16>,
}

/// One line's.
#[derive(Default)]
pub(super) struct Guard {
    line: Option<Key>,
    session: Option<Session>,
    /// Challenged, and not heard of since: a greeting that somebody recorded ends nobody's session.
    offered: Option<Session>,
}

const fn wrong(frame: &Frame<'_>) -> Refused {
    if frame.tag.is_some() { "wrong_key" } else { "no_key" }
}

impl Guard {
    pub(super) const fn new(line: Option<Key>) -> Self {
        Self { line, session: None, offered: None }
    }

    /// The key of the line itself, for greetings and rejections.
    pub(super) const fn line(&self) -> Option<&Key> {
        self.line.as_ref()
    }

    /// The key that frames of a session are made with; none on a line without a key. `Err` where the session is over.
    pub(super) fn key(&self, session: u32) -> Result<Option<&Key>, ()> {
        if self.line.is_none() {
            return Ok(None);
        }
        let open = self.session.as_ref().filter(|open| open.number == session);
        open.map(|open| Some(&open.key)).ok_or(())
    }

    /// Answers a greeting with the challenge to send, where the line has a key.
    pub(super) fn greeted(
        &mut self,
        frame: &Frame<'_>,
        challenge: impl FnOnce() -> Option<[u8; CHALLENGE_BYTES]>,
    ) -> Result<Option<[u8; CHALLENGE_BYTES]>, Refused> {
        let Some(line) = &self.line else { return Ok(None) };
        if !line.opens(frame, Direction::ToBox) {
            return Err(wrong(frame));
        }
        let challenge = challenge().ok_or("no_random_numbers")?;
        let key = line.of_session(frame.session, &challenge);
        self.offered = Some(Session { number: frame.session, key, last: None });
        Ok(Some(challenge))
    }

    /// Whether a frame comes from who has the key. The first one under an offered key begins its session, which is told.
    pub(super) fn check(&mut self, frame: &Frame<'_>) -> Result<bool, Refused> {
        if self.line.is_none() {
            return Ok(false);
        }
        let opens = |open: &Session| open.number == frame.session && open.key.opens(frame, Direction::ToBox);
        if self.offered.as_ref().is_some_and(opens) {
            self.session = self.offered.take();
            return Ok(true);
        }
        if self.session.as_ref().is_some_and(opens) { Ok(false) } else { Err(wrong(frame)) }
    }

    /// Whether a message of this number was taken before.
    pub(super) fn is_past(&self, seq: u16) -> bool {
        self.session.as_ref().is_some_and(|open| open.last.is_some_and(|last| seq <= last))
    }

    /// A message is whole: it is not taken once more.
    pub(super) fn took(&mut self, seq: u16) {
        if let Some(open) = &mut self.session {
            open.last = Some(seq);
        }
    }
}
