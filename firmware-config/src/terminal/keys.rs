//! What a terminal on a line with a key takes from whom.

use crate::wire::{CHALLENGE_BYTES, Direction, Frame, FrameType, Key, Reason};

/// The keys of a line that has one.
pub(super) struct Keys {
    line: Key,
    /// Of this session, from the box's challenge on.
    session: Option<Key>,
}

/// What a frame is to the exchange.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A frame of the session.
    Frame,
    /// The box answered the greeting: there is a key for the session.
    Challenge,
    /// The box wants a greeting: it knows nothing of this session.
    Greet,
    /// Somebody says that nothing is taken; it is not signed, so anybody may have said it.
    Unsigned,
    /// Nothing.
    Nothing,
}

impl Keys {
    pub(super) const fn new(line: Key) -> Self {
        Self { line, session: None }
    }

    /// The frame as it goes over the line.
    pub(super) fn seal<'a>(&self, frame: &Frame<'a>) -> Frame<'a> {
        let key = if frame.kind == FrameType::Hello { None } else { self.session.as_ref() };
        key.unwrap_or(&self.line).seal(frame, Direction::ToBox)
    }

    pub(super) const fn has_session(&self) -> bool {
        self.session.is_some()
    }

    pub(super) fn end_session(&mut self) {
        self.session = None;
    }

    /// Looks at a frame of this terminal's session number.
    pub(super) fn hear(&mut self, frame: &Frame<'_>, greeted: bool) -> Said {
        let opens = |key: &Key| key.opens(frame, Direction::ToTerminal);
        let greet =
            frame.kind == FrameType::Reject && Reason::from_payload(frame.payload) != Some(Reason::Unknown);
        if frame.kind != FrameType::Hello && !greet {
            return if self.session.as_ref().is_some_and(opens) { Said::Frame } else { Said::Nothing };
        }
        match frame.payload.first_chunk::<CHALLENGE_BYTES>() {
            _ if !opens(&self.line) => {
                if greet {
                    Said::Unsigned
                } else {
                    Said::Nothing
                }
            }
            _ if greet => Said::Greet,
            Some(challenge) if greeted => {
                self.session = Some(self.line.of_session(frame.session, challenge));
                Said::Challenge
            }
            _ => Said::Nothing,
        }
    }
}
