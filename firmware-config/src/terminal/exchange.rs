//! One request from the first frame to its outcome.

use core::fmt;

use zeroize::Zeroize as _;

use super::message::FaultRef;
use crate::{
    wire::{Frame, FrameType, MAX_FRAME, Reassembler, WireError, encode, fragments_of, part},
    words::FaultCode,
};

/// Time until a busy box is asked again, where it does not say one.
const PAUSE_MS: u64 = 200;

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
    NoRoom { got: usize },
}

pub(super) struct Exchange<Q, A> {
    session: u32,
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
        Self { session, seq: 0, tries: 0, patience, ends_ms: 0, state: State::Idle, request, len: 0, answer }
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
        self.tries = 0;
        self.again();
    }

    pub(super) fn forget(&mut self) {
        self.state = State::Idle;
        self.request.as_mut()[..self.len].zeroize();
        self.len = 0;
        self.answer.wipe();
    }

    pub(super) fn transmit(&mut self, now_ms: u64, out: &mut [u8; MAX_FRAME]) -> Option<usize> {
        let State::Sending(fragment) = self.state else { return None };
        let request = &self.request.as_ref()[..self.len];
        let last = fragment + 1 == fragments_of(request);
        let frame = part(FrameType::Request, self.session, self.seq, request, fragment);
        let written = encode(&frame, out).ok();
        self.state = if last {
            let doubled = u64::from(self.patience.ack_ms) << self.tries.saturating_sub(1).min(16);
            State::Waiting(now_ms.saturating_add(doubled.min(self.patience.answer_ms.into())))
        } else {
            State::Sending(fragment + 1)
        };
        written
    }

    pub(super) fn take(&mut self, frame: &Frame<'_>, now_ms: u64) {
        let open = matches!(self.state, State::Sending(_) | State::Waiting(_));
        // How many tries ago the number was used.
        let age = self.seq.wrapping_sub(frame.seq);
        if !open || frame.session != self.session || age >= self.tries.into() {
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
            State::Sending(_) | State::Waiting(_) if now_ms >= self.ends_ms => Outcome::TimedOut,
            State::Waiting(until_ms) if now_ms >= until_ms => {
                self.again();
                return None;
            }
            State::Sending(_) | State::Waiting(_) => return None,
        };
        self.state = State::Idle;
        self.request.as_mut()[..self.len].zeroize();
        self.len = 0;
        Some(outcome)
    }

    pub(super) fn wake_ms(&self) -> Option<u64> {
        match self.state {
            State::Idle => None,
            State::Waiting(until_ms) => Some(until_ms.min(self.ends_ms)),
            State::Sending(_) | State::Whole(_) | State::NoRoom(_) => Some(0),
        }
    }

    /// Sends the request under the next number, or, after the last try, waits for what is under way.
    fn again(&mut self) {
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
