//! Which frames of a line are taken: on a line with a key those that were made with it, and every message once.

use std::{collections::VecDeque, path::Path};

use locus_firmware_config::wire::{CHALLENGE_BYTES, Direction, Frame, KEY_BYTES, Key};
use zeroize::Zeroizing;

use crate::{
    keys::random,
    vfs::{OsVfs, Vfs},
};

/// Messages of a line without a key that are recognised when the line doubles them.
const RECENT: usize = 32;
/// Largest key file, in bytes: hexadecimal digits and a line break.
const MAX_KEY_FILE: u64 = 256;

/// Reads a line's key: 64 hexadecimal digits.
///
/// # Errors
/// The file cannot be read, or holds no key.
pub fn read_key(path: &Path) -> Result<Key, String> {
    let named = |reason: &str| format!("serial.key_file {}: {reason}", path.display());
    let text = OsVfs.read(path, MAX_KEY_FILE).map_err(|error| named(&error.to_string()))?;
    let text = Zeroizing::new(text);
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    hex::decode_to_slice(text.trim_ascii(), &mut *bytes)
        .map_err(|_| named("got no key, expected 64 hexadecimal digits; `locusctl line-key` makes one"))?;
    Ok(Key::new(*bytes))
}

/// What is to be done with a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// It is taken.
    Yes,
    /// It was taken before: whoever sent it is told so once more, and nothing else happens.
    Again,
    /// It is not taken; the sender has to greet first.
    Rejected,
}

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
    /// Of a line without a key: sessions and numbers of the latest messages.
    recent: VecDeque<(u32, u16)>,
}

/// Counts what is not taken.
fn refused(reason: &'static str) {
    metrics::counter!("locus_refused_total", "transport" => "serial", "reason" => reason).increment(1);
}

impl Guard {
    pub(super) fn new(line: Option<Key>) -> Self {
        Self { line, ..Self::default() }
    }

    /// The key of the line itself, for greetings and rejections.
    pub(super) fn line(&self) -> Option<&Key> {
        self.line.as_ref()
    }

    /// The key that answers of a session are made with.
    pub(super) fn key(&self, session: u32) -> Option<Key> {
        self.session.as_ref().filter(|open| open.number == session).map(|open| open.key.clone())
    }

    /// Answers a greeting: the challenge to send, where the line has a key.
    pub(super) fn greeted(&mut self, frame: &Frame<'_>) -> Result<Option<[u8; CHALLENGE_BYTES]>, Passed> {
        let Some(line) = &self.line else { return Ok(None) };
        if !line.opens(frame, Direction::ToBox) {
            refused(if frame.tag.is_some() { "wrong_key" } else { "no_key" });
            return Err(Passed::Rejected);
        }
        // Without random numbers there is no session.
        let Ok(challenge) = random::<CHALLENGE_BYTES>() else { return Err(Passed::Rejected) };
        let key = line.of_session(frame.session, &challenge);
        self.offered = Some(Session { number: frame.session, key, last: None });
        Ok(Some(*challenge))
    }

    /// Whether a frame of a message is taken.
    pub(super) fn check(&mut self, frame: &Frame<'_>) -> Passed {
        if self.line.is_none() {
            let known = self.recent.contains(&(frame.session, frame.seq));
            return if known { Passed::Again } else { Passed::Yes };
        }
        let opens = |open: &Session| open.number == frame.session && open.key.opens(frame, Direction::ToBox);
        if self.offered.as_ref().is_some_and(opens) {
            self.session = self.offered.take();
        }
        match self.session.as_ref().filter(|open| opens(open)) {
            Some(open) if open.last.is_none_or(|last| frame.seq > last) => Passed::Yes,
            Some(_) => {
                refused("replayed");
                Passed::Again
            }
            None => {
                refused(if frame.tag.is_some() { "wrong_key" } else { "no_key" });
                Passed::Rejected
            }
        }
    }

    /// A message is whole: it is not taken once more.
    pub(super) fn took(&mut self, session: u32, seq: u16) {
        if let Some(open) = self.session.as_mut().filter(|open| open.number == session) {
            open.last = Some(seq);
        } else if self.line.is_none() {
            self.recent.push_back((session, seq));
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use locus_firmware_config::wire::FrameType;

    use super::*;

    fn frame(kind: FrameType, seq: u16) -> Frame<'static> {
        Frame { kind, session: 7, seq, fragment: 0, fragments: 1, payload: b"x", tag: None }
    }

    #[test]
    fn a_line_without_a_key_takes_every_message_once() {
        let mut guard = Guard::default();
        let first = frame(FrameType::Request, 1);
        assert_eq!(guard.check(&first), Passed::Yes);
        assert_eq!(guard.check(&first), Passed::Yes, "its fragments belong together");
        guard.took(7, 1);
        assert_eq!(guard.check(&first), Passed::Again);
        assert_eq!(guard.check(&Frame { session: 8, ..first }), Passed::Yes, "another life of the terminal");
        for seq in 2..100 {
            guard.took(7, seq);
        }
        assert_eq!(guard.recent.len(), RECENT);
    }

    #[test]
    fn a_line_with_a_key_takes_what_was_made_with_it_in_this_session_and_once() {
        let line = Key::new([3; KEY_BYTES]);
        let mut guard = Guard::new(Some(line.clone()));
        let hello = frame(FrameType::Hello, 0);
        assert_eq!(guard.check(&frame(FrameType::Request, 1)), Passed::Rejected);
        assert_eq!(guard.greeted(&hello), Err(Passed::Rejected), "without a tag");
        let greeting = line.seal(&hello, Direction::ToBox);
        let challenge = guard.greeted(&greeting).unwrap().unwrap();
        let key = line.of_session(7, &challenge);
        let sealed = |key: &Key, seq| key.seal(&frame(FrameType::Request, seq), Direction::ToBox);
        assert_eq!(
            guard.check(&sealed(&line, 1)),
            Passed::Rejected,
            "the line's own key signs greetings only"
        );
        assert_eq!(guard.check(&sealed(&key, 1)), Passed::Yes);
        guard.took(7, 1);
        assert_eq!(guard.check(&sealed(&key, 1)), Passed::Again, "a recorded frame");
        assert_eq!(guard.check(&sealed(&key, 2)), Passed::Yes);
        guard.took(7, 2);
        assert_eq!(guard.check(&sealed(&key, 1)), Passed::Again);
        // A recorded greeting gives a new challenge and leaves the session as it is.
        let other = guard.greeted(&greeting).unwrap().unwrap();
        assert_ne!(other, challenge);
        assert_eq!(guard.check(&sealed(&key, 3)), Passed::Yes);
        // Only who has the key can use it; then the old session is over.
        assert_eq!(guard.check(&sealed(&line.of_session(7, &other), 1)), Passed::Yes);
        assert_eq!(guard.check(&sealed(&key, 4)), Passed::Rejected);
    }

    #[test]
    fn a_key_file_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("line.key");
        assert!(read_key(&path).unwrap_err().contains("line.key"));
        for text in ["", "abc", &"z".repeat(64), &"0".repeat(66)] {
            std::fs::write(&path, text).unwrap();
            let error = read_key(&path).unwrap_err();
            assert!(error.contains("line.key") && error.contains("64 hexadecimal"), "{error}");
        }
        std::fs::write(&path, format!("{}\n", "0a".repeat(32))).unwrap();
        assert!(read_key(&path).is_ok());
    }
}
