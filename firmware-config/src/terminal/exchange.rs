//! One request from the first frame to its outcome.

use core::fmt;

use zeroize::Zeroize as _;

use super::message::FaultRef;
use crate::{
    wire::{
        CHALLENGE_BYTES, Direction, Frame, FrameType, Key, MAX_FRAME, Reassembler, WireError, encode,
        fragments_of, part,
    },
    words::FaultCode,
};

/// Time until a busy box is asked again, where it does not say one.
const PAUSE_MS: u64 = 200;
/// Greetings of one request at most.
const GREETINGS: u8 = 16;

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the box to say that it has the request, in milliseconds; twice as long after each try, up to
    /// `answer_ms`. The time that the line itself takes for a request's last frames is part of it.
    pub ack_ms: u32,
    /// For the outcome after that, and for each further part of it, in milliseconds.
    pub answer_ms: u32,
    /// For everything, in milliseconds.
    pub give_up_ms: u32,
    /// How often the request is sent, at least once.
    pub tries: u8,
}

impl Default for Patience {
    fn default() -> Self {
        Self { ack_ms: 1_000, answer_ms: 5_000, give_up_ms: 20_000, tries: 16 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is asked.
    Idle,
    /// A greeting is to be sent: the line has a key, and there is none for this session yet.
    Greeting,
    /// Sent: again at this time if no challenge comes.
    Greeted(u64),
    /// The fragment to send next.
    Sending(u8),
    /// Sent: again at this time if nothing comes.
    Waiting(u64),
    /// An outcome lies in `answer`.
    Whole(FrameType),
    /// An outcome is too large.
    NoRoom(usize),
}

/// What [`Exchange::poll`] finds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Answer,
    Fault,
    Busy { again_ms: u64 },
    TimedOut,
    Rejected,
    NoRoom { got: usize },
}

/// The keys of a line that has one.
struct Keys {
    line: Key,
    /// Of this session, from the box's challenge on.
    session: Option<Key>,
}

pub(super) struct Exchange<Q, A> {
    session: u32,
    keys: Option<Keys>,
    /// Greetings of this request so far.
    greetings: u8,
    /// Whether the box said that it does not take what it got.
    rejected: bool,
    /// Number of the last try; the tries of one request follow each other.
    seq: u16,
    /// Tries so far.
    tries: u8,
    patience: Patience,
    ends_ms: u64,
    state: State,
    pub(super) request: Q,
    len: usize,
    pub(super) answer: Reassembler<A>,
}

impl<Q, A> Exchange<Q, A> {
    pub(super) const fn new(session: u32, request: Q, answer: Reassembler<A>) -> Self {
        let patience = Patience { ack_ms: 0, answer_ms: 0, give_up_ms: 0, tries: 0 };
        Self {
            session,
            keys: None,
            greetings: 0,
            rejected: false,
            seq: 0,
            tries: 0,
            patience,
            ends_ms: 0,
            state: State::Idle,
            request,
            len: 0,
            answer,
        }
    }
}

impl<Q, A> Exchange<Q, A>
where
    Q: AsRef<[u8]> + AsMut<[u8]>,
    A: AsRef<[u8]> + AsMut<[u8]>,
{
    /// Starts with the request that lies in the first `len` bytes.
    pub(super) fn begin(&mut self, len: usize, has_id: bool, patience: Patience, now_ms: u64) {
        // Without an id the box would take a repeat for another request.
        let tries = if has_id { patience.tries.max(1) } else { 1 };
        self.patience = Patience { tries, ..patience };
        self.ends_ms = now_ms.saturating_add(patience.give_up_ms.into());
        self.len = len;
        (self.tries, self.greetings, self.rejected) = (0, 0, false);
        self.again();
    }

    pub(super) fn use_key(&mut self, line: Key) {
        self.keys = Some(Keys { line, session: None });
    }

    pub(super) fn forget(&mut self) {
        self.state = State::Idle;
        self.request.as_mut()[..self.len].zeroize();
        self.len = 0;
        self.answer.wipe();
    }

    /// Doubled with every try, up to the patience for an answer.
    fn until(&self, now_ms: u64, tries: u8) -> u64 {
        let doubled = u64::from(self.patience.ack_ms) << tries.saturating_sub(1).min(16);
        now_ms.saturating_add(doubled.min(self.patience.answer_ms.into()))
    }

    pub(super) fn transmit(&mut self, now_ms: u64, out: &mut [u8; MAX_FRAME]) -> Option<usize> {
        if let (State::Greeting, Some(keys)) = (self.state, &self.keys) {
            let hello = part(FrameType::Hello, self.session, 0, &[], 0);
            let written = encode(&keys.line.seal(&hello, Direction::ToBox), out).ok();
            self.state = State::Greeted(self.until(now_ms, self.greetings));
            return written;
        }
        let State::Sending(fragment) = self.state else { return None };
        let request = &self.request.as_ref()[..self.len];
        let last = fragment + 1 == fragments_of(request);
        let frame = part(FrameType::Request, self.session, self.seq, request, fragment);
        let key = self.keys.as_ref().and_then(|keys| keys.session.as_ref());
        let written = encode(&key.map_or(frame, |key| key.seal(&frame, Direction::ToBox)), out).ok();
        self.state =
            if last { State::Waiting(self.until(now_ms, self.tries)) } else { State::Sending(fragment + 1) };
        written
    }

    /// Whether a frame is for the exchange itself; on a line with a key only frames of the session's key are.
    fn passes(&mut self, frame: &Frame<'_>) -> bool {
        if frame.session != self.session || self.state == State::Idle {
            return false;
        }
        let Some(keys) = &mut self.keys else {
            self.rejected |= frame.kind == FrameType::Reject;
            return !self.rejected;
        };
        let by_line = matches!(frame.kind, FrameType::Hello | FrameType::Reject);
        if !by_line {
            return keys.session.as_ref().is_some_and(|key| key.opens(frame, Direction::ToTerminal));
        }
        if !keys.line.opens(frame, Direction::ToTerminal) {
            // It may come from anybody: it is told at the end, should nothing else come.
            self.rejected |= frame.kind == FrameType::Reject;
            return false;
        }
        let challenge = frame.payload.first_chunk::<CHALLENGE_BYTES>();
        match (frame.kind, challenge) {
            (FrameType::Hello, Some(challenge)) if matches!(self.state, State::Greeted(_)) => {
                keys.session = Some(keys.line.of_session(self.session, challenge));
                self.seq = 0;
                self.again();
            }
            (FrameType::Reject, _) if matches!(self.state, State::Sending(_) | State::Waiting(_)) => {
                // The box started anew: what it knew of this session is gone.
                keys.session = None;
                // What it did not take may be sent once more, also without an id.
                self.tries = self.tries.saturating_sub(1);
                self.greet();
            }
            _ => {}
        }
        false
    }

    pub(super) fn take(&mut self, frame: &Frame<'_>, now_ms: u64) {
        if !self.passes(frame) {
            return;
        }
        let open = matches!(self.state, State::Sending(_) | State::Waiting(_));
        // How many tries ago the number was used.
        let age = self.seq.wrapping_sub(frame.seq);
        if !open || age >= self.tries.into() {
            return;
        }
        match frame.kind {
            FrameType::Ack => self.heard(now_ms),
            FrameType::Nack if age == 0 => self.again(),
            FrameType::Answer | FrameType::Fault => {
                match self.answer.push(frame).map(|whole| whole.is_some()) {
                    Ok(true) if self.names_the_request(frame.kind) => self.state = State::Whole(frame.kind),
                    Ok(true) => self.answer.wipe(),
                    Ok(false) => self.heard(now_ms),
                    Err(WireError::Buffer { got, .. }) => self.state = State::NoRoom(got),
                    Err(_) if age == 0 => self.again(),
                    Err(_) => {}
                }
            }
            _ => {}
        }
    }

    pub(super) fn poll(&mut self, now_ms: u64) -> Option<Outcome> {
        let outcome = match self.state {
            State::Idle => return None,
            State::Whole(FrameType::Answer) => Outcome::Answer,
            State::Whole(_) => match self.pause(now_ms) {
                Some(again_ms) => {
                    self.state = State::Waiting(again_ms);
                    return Some(Outcome::Busy { again_ms });
                }
                None => Outcome::Fault,
            },
            State::NoRoom(got) => Outcome::NoRoom { got },
            _ if self.rejected && (self.keys.is_none() || now_ms >= self.ends_ms) => Outcome::Rejected,
            _ if now_ms >= self.ends_ms => Outcome::TimedOut,
            State::Greeted(until_ms) if now_ms >= until_ms => {
                self.greet();
                return None;
            }
            State::Waiting(until_ms) if now_ms >= until_ms => {
                self.again();
                return None;
            }
            State::Greeting | State::Greeted(_) | State::Sending(_) | State::Waiting(_) => return None,
        };
        self.state = State::Idle;
        self.request.as_mut()[..self.len].zeroize();
        self.len = 0;
        Some(outcome)
    }

    pub(super) fn wake_ms(&self) -> Option<u64> {
        match self.state {
            State::Idle => None,
            State::Waiting(_) | State::Greeted(_) if self.rejected && self.keys.is_none() => Some(0),
            State::Waiting(until_ms) | State::Greeted(until_ms) => Some(until_ms.min(self.ends_ms)),
            State::Greeting | State::Sending(_) | State::Whole(_) | State::NoRoom(_) => Some(0),
        }
    }

    /// Asks for a challenge; after the last try it waits for what is under way.
    fn greet(&mut self) {
        let may = self.greetings < GREETINGS;
        self.greetings += u8::from(may);
        self.state = if may { State::Greeting } else { State::Waiting(self.ends_ms) };
    }

    /// Sends the request under the next number, or, after the last try, waits for what is under way.
    fn again(&mut self) {
        // Numbers only grow under one key.
        if let Some(keys) = self.keys.as_mut().filter(|keys| keys.session.is_none() || self.seq == u16::MAX) {
            keys.session = None;
            return self.greet();
        }
        if self.tries >= self.patience.tries {
            self.state = State::Waiting(self.ends_ms);
            return;
        }
        self.tries += 1;
        self.seq = self.seq.wrapping_add(1);
        self.state = State::Sending(0);
    }

    /// The box has the request, under this number or an earlier one: no more of it needs to be sent.
    fn heard(&mut self, now_ms: u64) {
        self.state = State::Waiting(now_ms.saturating_add(self.patience.answer_ms.into()));
    }

    /// When to ask again, if the fault is that the box is busy and there is time and a try left.
    fn pause(&self, now_ms: u64) -> Option<u64> {
        let fault: FaultRef<'_> = postcard::from_bytes(self.answer.message()).ok()?;
        let again_ms = now_ms.saturating_add(fault.retry_after_ms.map_or(PAUSE_MS, u64::from));
        let may = self.tries < self.patience.tries && again_ms < self.ends_ms;
        (fault.code == FaultCode::Busy && may).then_some(again_ms)
    }

    /// Every message begins with the id. A fault has none where the box could not read it.
    fn names_the_request(&self, kind: FrameType) -> bool {
        let id = |bytes| postcard::take_from_bytes::<Option<&str>>(bytes).ok().map(|(id, _)| id);
        match (id(&self.request.as_ref()[..self.len]), id(self.answer.message())) {
            (_, Some(None)) if kind == FrameType::Fault => true,
            (Some(asked), Some(named)) => asked == named,
            // Not to be read: the one who asks is told so.
            (_, None) => true,
            (None, _) => false,
        }
    }
}

impl<Q, A> fmt::Debug for Exchange<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("session", &self.session)
            .field("seq", &self.seq)
            .field("tries", &self.tries)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
