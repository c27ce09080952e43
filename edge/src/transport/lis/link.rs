//! The line of LIS01-A2 (ASTM E1381) without I/O: establishment, numbered frames with a checksum, termination. Bytes
//! and times go in, bytes and messages come out.

use std::{collections::VecDeque, time::Duration};

use locus_firmware_config::message::MAX_MESSAGE_BYTES;
use zeroize::{Zeroize as _, Zeroizing};

const STX: u8 = 0x02;
const ETX: u8 = 0x03;
pub(super) const EOT: u8 = 0x04;
pub(super) const ENQ: u8 = 0x05;
pub(super) const ACK: u8 = 0x06;
const LF: u8 = 0x0a;
const CR: u8 = 0x0d;
const NAK: u8 = 0x15;
const ETB: u8 = 0x17;

/// Text of a frame that is sent.
const FRAME_TEXT: usize = 240;
/// Longest frame that is read: 64,000 bytes with everything around the text.
const MAX_FRAME: usize = 64_000;
/// Times that a frame is sent again before the message is given up for now.
const RETRIES: u32 = 6;
/// Times that a message is tried to be sent.
const ATTEMPTS: u32 = 3;
/// Messages that wait to be sent; above it the terminal is told that the box is busy.
const MAX_WAITING: usize = 8;

/// Time-outs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// For an answer to an enquiry or a frame.
    pub(super) reply: Duration,
    /// For the next frame of a message.
    pub(super) frame: Duration,
    /// Before a terminal that was busy is asked again.
    pub(super) busy: Duration,
    /// Before a terminal that enquired at the same time is asked again.
    pub(super) contention: Duration,
}

/// What came of bytes or of time.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A whole message.
    Message(Zeroizing<Vec<u8>>),
    /// A message of ours was taken.
    Sent,
    /// Something was not taken, or a message of ours was given up.
    Refused(&'static str),
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Neutral,
    /// The terminal sends: what of a frame has come, if one began.
    Receiving(Option<Zeroizing<Vec<u8>>>),
    /// The box has enquired.
    Enquired,
    /// The box sends.
    Sending {
        frames: Vec<Zeroizing<Vec<u8>>>,
        at: usize,
        tries: u32,
    },
}

/// One end of a line: the computer's, which gives way where both enquire at once.
#[derive(Debug)]
pub(super) struct Link {
    times: Times,
    state: State,
    /// When the state is given up.
    until: Duration,
    /// Before it nothing is sent.
    not_before: Duration,
    /// Number of the next frame.
    next: u8,
    message: Zeroizing<Vec<u8>>,
    /// Whether the message came whole so far: its last frame was one that ends.
    whole: bool,
    waiting: VecDeque<(Zeroizing<Vec<u8>>, u32)>,
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum = bytes.iter().fold(0_u8, |sum, &b| sum.wrapping_add(b));
    let digit = |n: u8| b"0123456789ABCDEF"[usize::from(n & 15)];
    [digit(sum >> 4), digit(sum)]
}

/// The frames of a message.
pub(super) fn frames(message: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let chunks: Vec<&[u8]> = message.chunks(FRAME_TEXT).collect();
    let last = chunks.len().saturating_sub(1);
    let frame = |(n, text): (usize, &&[u8])| {
        let mut frame = Zeroizing::new(Vec::with_capacity(text.len() + 7));
        frame.extend_from_slice(&[STX, b'0' + ((n + 1) % 8) as u8]);
        frame.extend_from_slice(text);
        frame.push(if n == last { ETX } else { ETB });
        let sum = checksum(&frame[1..]);
        frame.extend_from_slice(&sum);
        frame.extend_from_slice(&[CR, LF]);
        frame
    };
    chunks.iter().enumerate().map(frame).collect()
}

impl Link {
    pub(super) fn new(times: Times) -> Self {
        Self {
            times,
            state: State::Neutral,
            until: Duration::ZERO,
            not_before: Duration::ZERO,
            next: 1,
            message: Zeroizing::new(Vec::new()),
            whole: true,
            waiting: VecDeque::new(),
        }
    }

    /// Has a message wait for the line.
    pub(super) fn send(&mut self, message: Zeroizing<Vec<u8>>) {
        self.waiting.push_back((message, 0));
    }

    /// When [`Link::tick`] has something to do.
    pub(super) fn due(&self) -> Option<Duration> {
        match self.state {
            State::Neutral => (!self.waiting.is_empty()).then_some(self.not_before),
            _ => Some(self.until),
        }
    }

    /// Sends what waits, gives up what has taken too long.
    pub(super) fn tick(&mut self, now: Duration, out: &mut Vec<u8>) -> Option<Event> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        match self.state {
            State::Neutral => {
                out.push(ENQ);
                self.enter(State::Enquired, now + self.times.reply);
                None
            }
            State::Receiving(_) => {
                self.forget();
                self.enter(State::Neutral, now);
                Some(Event::Refused("slow"))
            }
            State::Enquired | State::Sending { .. } => {
                out.push(EOT);
                self.put_off(now, self.times.busy, "unanswered")
            }
        }
    }

    fn enter(&mut self, state: State, until: Duration) {
        (self.state, self.until) = (state, until);
    }

    fn forget(&mut self) {
        self.message.zeroize();
        (self.next, self.whole) = (1, true);
    }

    /// Tries the first message that waits later, or not again.
    fn put_off(&mut self, now: Duration, wait: Duration, reason: &'static str) -> Option<Event> {
        self.enter(State::Neutral, now);
        self.not_before = now + wait;
        let (_, attempts) = self.waiting.front_mut()?;
        *attempts += 1;
        if *attempts < ATTEMPTS {
            return None;
        }
        self.waiting.pop_front();
        Some(Event::Refused(reason))
    }

    /// Takes one byte.
    pub(super) fn receive(&mut self, now: Duration, byte: u8, out: &mut Vec<u8>) -> Option<Event> {
        match (&mut self.state, byte) {
            (State::Neutral, ENQ) => {
                if self.waiting.len() >= MAX_WAITING {
                    out.push(NAK);
                    return Some(Event::Refused("busy"));
                }
                self.forget();
                out.push(ACK);
                self.enter(State::Receiving(None), now + self.times.frame);
                None
            }
            (State::Neutral, _) => None,
            // The terminal goes first, and enquires again.
            (State::Enquired, ENQ) => {
                self.enter(State::Neutral, now);
                self.not_before = now + self.times.contention;
                None
            }
            (State::Enquired, ACK) => {
                let frames = self.waiting.front().map(|(message, _)| frames(message)).unwrap_or_default();
                if let Some(first) = frames.first() {
                    out.extend_from_slice(first);
                }
                self.enter(State::Sending { frames, at: 0, tries: 0 }, now + self.times.reply);
                None
            }
            (State::Enquired, NAK) => self.put_off(now, self.times.busy, "unanswered"),
            (State::Enquired, _) => None,
            (State::Sending { .. }, _) => self.replied(now, byte, out),
            (State::Receiving(frame @ None), STX) => {
                *frame = Some(Zeroizing::new(Vec::new()));
                None
            }
            (State::Receiving(None), EOT) => self.ended(now),
            // The terminal starts anew.
            (State::Receiving(None), ENQ) => {
                self.forget();
                out.push(ACK);
                self.until = now + self.times.frame;
                None
            }
            (State::Receiving(None), _) => None,
            (State::Receiving(Some(frame)), LF) => {
                let frame = std::mem::take(frame);
                self.state = State::Receiving(None);
                self.until = now + self.times.frame;
                self.framed(&frame, out)
            }
            (State::Receiving(Some(frame)), byte) => {
                if frame.len() < MAX_FRAME {
                    frame.push(byte);
                }
                None
            }
        }
    }

    fn ended(&mut self, now: Duration) -> Option<Event> {
        self.enter(State::Neutral, now);
        let (message, whole) = (std::mem::take(&mut self.message), self.whole);
        self.forget();
        if message.is_empty() {
            return None;
        }
        Some(if whole { Event::Message(message) } else { Event::Refused("framing") })
    }

    /// Takes a frame that ended: its number, text, end and checksum.
    fn framed(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Option<Event> {
        let (number, text, end) = match frame {
            [number @ b'0'..=b'7', text @ .., end @ (ETX | ETB), high, low, CR]
                if checksum(&frame[..frame.len() - 3])
                    == [high.to_ascii_uppercase(), low.to_ascii_uppercase()] =>
            {
                (number - b'0', text, *end)
            }
            _ => {
                out.push(NAK);
                return Some(Event::Refused("framing"));
            }
        };
        // The one before, again: our word for it was lost.
        if number == (self.next + 7) % 8 && !self.message.is_empty() {
            out.push(ACK);
            return None;
        }
        if number != self.next {
            out.push(NAK);
            return Some(Event::Refused("framing"));
        }
        if self.message.len() + text.len() > MAX_MESSAGE_BYTES {
            out.push(NAK);
            return Some(Event::Refused("too_large"));
        }
        // Room for all of it: a reallocation would leave a copy behind.
        let room = MAX_MESSAGE_BYTES - self.message.len();
        self.message.reserve_exact(room);
        self.message.extend_from_slice(text);
        (self.next, self.whole) = ((self.next + 1) % 8, end == ETX);
        out.push(ACK);
        None
    }

    /// Takes the terminal's word for a frame.
    fn replied(&mut self, now: Duration, byte: u8, out: &mut Vec<u8>) -> Option<Event> {
        let State::Sending { frames, at, tries } = &mut self.state else { return None };
        if byte == ACK || byte == EOT {
            (*at, *tries) = (*at + 1, 0);
            if *at >= frames.len() {
                out.push(EOT);
                self.waiting.pop_front();
                self.enter(State::Neutral, now);
                return Some(Event::Sent);
            }
        } else {
            *tries += 1;
            if *tries > RETRIES {
                out.push(EOT);
                return self.put_off(now, self.times.busy, "not_taken");
            }
        }
        out.extend_from_slice(&frames[*at]);
        self.until = now + self.times.reply;
        None
    }
}

#[cfg(test)]
mod tests;
