//! One request from the first frame to its outcome.
//!
//! Every frame of the request has one number until the box says that it knows nothing of it. What of the request the box
//! lacks, it says ([`FrameType::Nack`]), and gets that alone; what of the outcome the terminal lacks, it says in the same
//! way. So each frame may be lost as often as there are tries, and nothing that came through is sent twice.

use core::fmt;

use zeroize::Zeroize as _;

use super::{
    keys::{Keys, Said},
    message::FaultRef,
};
use crate::{
    wire::{
        Frame, FrameType, Have, Key, MAX_FRAME, Reason, Reassembler, WireError, encode, fragments_of, part,
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
    /// For the box to say that it has the request, and for each further part of an outcome, in milliseconds; twice as long
    /// after each try, up to `answer_ms`. The time that the line itself takes for some frames is part of it.
    pub ack_ms: u32,
    /// For the outcome after that, in milliseconds.
    pub answer_ms: u32,
    /// For everything, in milliseconds.
    pub give_up_ms: u32,
    /// How often something is sent again, at least once.
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
    /// Sent: again at this time if the box does not say that it has it.
    Sent(u64),
    /// It is to be said which fragments of the outcome are there.
    Asking,
    /// The box has the request: it is asked for the rest of the outcome at this time if nothing comes.
    Waiting(u64),
    /// The box is busy: the request is sent anew at this time.
    Pausing(u64),
    /// There is nothing left to try.
    Ended,
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

pub(super) struct Exchange<Q, A> {
    session: u32,
    keys: Option<Keys>,
    /// Greetings of this request so far.
    greetings: u8,
    /// Whether the box said that it does not take what it got.
    rejected: bool,
    /// Number of the request.
    seq: u16,
    /// Times so far that something was sent.
    tries: u8,
    /// Without an id the box would take the request under another number for another one.
    has_id: bool,
    /// Whether the box has had the whole request.
    acknowledged: bool,
    /// What of the request the box has.
    there: Have,
    patience: Patience,
    ends_ms: u64,
    state: State,
    pub(super) request: Q,
    len: usize,
    pub(super) answer: Reassembler<A>,
}

impl<Q, A> Exchange<Q, A> {
    pub(super) fn new(session: u32, request: Q, answer: Reassembler<A>) -> Self {
        let patience = Patience { ack_ms: 0, answer_ms: 0, give_up_ms: 0, tries: 0 };
        Self {
            session,
            keys: None,
            greetings: 0,
            rejected: false,
            seq: 0,
            tries: 0,
            has_id: false,
            acknowledged: false,
            there: Have::default(),
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
        self.patience = Patience { tries: patience.tries.max(1), ..patience };
        self.ends_ms = now_ms.saturating_add(patience.give_up_ms.into());
        (self.len, self.has_id) = (len, has_id);
        (self.tries, self.greetings, self.rejected) = (0, 0, false);
        self.anew();
    }

    pub(super) fn use_key(&mut self, line: Key) {
        self.keys = Some(Keys::new(line));
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
        let request = &self.request.as_ref()[..self.len];
        let (fragments, have) = (fragments_of(request), self.answer.partial(self.session, self.seq));
        let (frame, next) = match self.state {
            State::Greeting => (
                part(FrameType::Hello, self.session, 0, &[], 0),
                State::Greeted(self.until(now_ms, self.greetings)),
            ),
            State::Sending(fragment) => (
                part(FrameType::Request, self.session, self.seq, request, fragment),
                match self.after(fragment, fragments) {
                    Some(next) => State::Sending(next),
                    None => State::Sent(self.until(now_ms, self.tries)),
                },
            ),
            State::Asking => (
                part(
                    FrameType::Nack,
                    self.session,
                    self.seq,
                    have.map_or(&[][..], |(have, of)| have.payload(of)),
                    0,
                ),
                State::Waiting(self.until(now_ms, self.tries)),
            ),
            _ => return None,
        };
        let sealed = self.keys.as_ref().map_or(frame, |keys| keys.seal(&frame));
        let written = encode(&sealed, out).ok();
        self.state = next;
        written
    }

    /// The fragment to send after one: the next that the box lacks, and in the end the last one in any case, so that the
    /// box looks what it lacks.
    fn after(&self, fragment: u8, fragments: u8) -> Option<u8> {
        let last = fragments - 1;
        (fragment < last).then(|| self.there.missing(fragment + 1, fragments).unwrap_or(last))
    }

    /// Whether a frame is for the exchange itself; on a line with a key only frames of the session's key are.
    fn is_for_it(&mut self, frame: &Frame<'_>) -> bool {
        if frame.session != self.session || self.state == State::Idle {
            return false;
        }
        let greets =
            frame.kind == FrameType::Reject && Reason::from_payload(frame.payload) != Some(Reason::Unknown);
        let greeted = matches!(self.state, State::Greeted(_));
        match self.keys.as_mut().map(|keys| keys.hear(frame, greeted)) {
            None => {
                self.rejected |= greets;
                !greets
            }
            Some(Said::Frame) => true,
            Some(Said::Challenge) => {
                self.seq = 0;
                self.anew();
                false
            }
            Some(Said::Greet) => {
                let asks = matches!(self.state, State::Sending(_) | State::Sent(_) | State::Waiting(_));
                if let Some(keys) = self.keys.as_mut().filter(|_| asks) {
                    keys.end_session();
                    self.unknown();
                }
                false
            }
            Some(Said::Unsigned) => {
                // It is told at the end, should nothing else come.
                self.rejected = true;
                false
            }
            Some(Said::Nothing) => false,
        }
    }

    pub(super) fn take(&mut self, frame: &Frame<'_>, now_ms: u64) {
        let asked = |state| {
            matches!(
                state,
                State::Sending(_) | State::Sent(_) | State::Asking | State::Waiting(_) | State::Ended
            )
        };
        if !self.is_for_it(frame) || !asked(self.state) || frame.seq != self.seq {
            return;
        }
        match frame.kind {
            FrameType::Ack => self.heard(now_ms, self.patience.answer_ms),
            // Only of what it has not whole.
            FrameType::Nack if !self.acknowledged => {
                let fragments = fragments_of(&self.request.as_ref()[..self.len]);
                self.there = Have::from_payload(frame.payload);
                self.again(State::Sending(self.there.missing(0, fragments).unwrap_or(fragments - 1)));
            }
            FrameType::Reject => self.unknown(),
            FrameType::Answer | FrameType::Fault => {
                match self.answer.push(frame).map(|whole| whole.is_some()) {
                    Ok(true) if self.names_the_request(frame.kind) => self.state = State::Whole(frame.kind),
                    Ok(true) => self.answer.wipe(),
                    Ok(false) => {
                        self.heard(now_ms, self.patience.ack_ms);
                        // The box has sent all that it was asked for.
                        if frame.fragment + 1 == frame.fragments {
                            self.again(State::Asking);
                        }
                    }
                    Err(WireError::Buffer { got, .. }) => self.state = State::NoRoom(got),
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
                    self.state = State::Pausing(again_ms);
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
            State::Pausing(until_ms) if now_ms >= until_ms => {
                self.anew();
                return None;
            }
            // Without an id it is asked first whether the box has it.
            State::Sent(until_ms) if now_ms >= until_ms && self.has_id => {
                self.again(State::Sending(0));
                return None;
            }
            State::Sent(until_ms) | State::Waiting(until_ms) if now_ms >= until_ms => {
                self.again(State::Asking);
                return None;
            }
            _ => return None,
        };
        self.state = State::Idle;
        self.request.as_mut()[..self.len].zeroize();
        self.len = 0;
        Some(outcome)
    }

    pub(super) fn wake_ms(&self) -> Option<u64> {
        match self.state {
            State::Idle => None,
            State::Whole(_) | State::NoRoom(_) => Some(0),
            _ if self.rejected && self.keys.is_none() => Some(0),
            State::Greeting | State::Sending(_) | State::Asking => Some(0),
            State::Sent(until) | State::Waiting(until) | State::Greeted(until) | State::Pausing(until) => {
                Some(until.min(self.ends_ms))
            }
            State::Ended => Some(self.ends_ms),
        }
    }

    /// Asks for a challenge; after the last try it waits for what is under way.
    fn greet(&mut self) {
        let may = self.greetings < GREETINGS;
        self.greetings += u8::from(may);
        self.state = if may { State::Greeting } else { State::Ended };
    }

    /// Sends the request under the next number.
    fn anew(&mut self) {
        self.answer.wipe();
        (self.there, self.acknowledged) = (Have::default(), false);
        // Numbers only grow under one key.
        if let Some(keys) = self.keys.as_mut().filter(|keys| !keys.has_session() || self.seq == u16::MAX) {
            keys.end_session();
            return self.greet();
        }
        self.seq = self.seq.wrapping_add(1);
        self.again(State::Sending(0));
    }

    /// The box knows nothing of the request: it did not come through, or the box started anew.
    fn unknown(&mut self) {
        if self.has_id || !self.acknowledged && self.keys.is_some() {
            self.anew();
        } else {
            self.state = State::Ended;
        }
    }

    /// One more try; after the last one it waits for what is under way.
    fn again(&mut self, state: State) {
        let may = self.tries < self.patience.tries;
        self.tries += u8::from(may);
        self.state = if may { state } else { State::Ended };
    }

    /// The box has the request: no more of it needs to be sent.
    fn heard(&mut self, now_ms: u64, patience_ms: u32) {
        self.acknowledged = true;
        self.state = State::Waiting(now_ms.saturating_add(patience_ms.into()));
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
