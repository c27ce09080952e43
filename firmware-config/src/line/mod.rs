//! The box's end of a serial line, without I/O.
//!
//! [`Line`] is given the bytes that came, and gives the requests in them and the bytes to send. It takes every message
//! once, says what it lacks of one, and keeps the latest outcomes, so that a terminal gets the rest of one that the line
//! spoilt. Its counterpart is [`crate::terminal::Terminal`].

mod guard;

use std::{collections::VecDeque, fmt};

use zeroize::Zeroizing;

use crate::wire::{
    CHALLENGE_BYTES, Decoder, Direction, Frame, FrameType, Have, Key, MAX_FRAME, MAX_MESSAGE, Reason,
    Reassembler, WireError, encode, fragments,
};
use guard::Guard;

/// Messages that are recognised when they come once more.
const RECENT: usize = 32;
/// Of these, whose outcomes are kept to send parts of them again.
const KEPT: usize = 8;

/// What came over the line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Heard<'a> {
    /// A whole request.
    Request {
        /// Whose outcome is asked for.
        ticket: Ticket,
        /// As postcard.
        message: &'a [u8],
    },
    /// Bytes that are no frame. Nothing in them can be trusted, the sender's number least of all.
    Broken(WireError),
    /// A frame that is not taken, and why.
    Refused(&'static str),
    /// A message that was taken before.
    Again,
}

/// Names a request until its outcome is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    session: u32,
    seq: u16,
    life: u64,
}

/// A message that was taken.
struct Taken {
    session: u32,
    seq: u16,
    outcome: Option<(FrameType, Zeroizing<Vec<u8>>)>,
}

/// One line's state.
pub struct Line {
    decoder: Decoder,
    desk: Desk,
}

/// All but the decoder, which lends frames.
struct Desk {
    version: &'static str,
    guard: Guard,
    /// Grows with every session of a line with a key: there numbers begin anew.
    life: u64,
    request: Reassembler<Vec<u8>>,
    taken: VecDeque<Taken>,
}

/// No bytes: they may be of a patient.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("taken", &self.desk.taken.len()).finish_non_exhaustive()
    }
}

impl Line {
    /// A line with or without a key; `version` is told to who greets.
    pub fn new(key: Option<Key>, version: &'static str) -> Self {
        let desk = Desk {
            version,
            guard: Guard::new(key),
            life: 0,
            request: Reassembler::new(vec![0; MAX_MESSAGE]),
            taken: VecDeque::new(),
        };
        Self { decoder: Decoder::new(), desk }
    }

    /// Takes bytes that came, in any portions: what is to be sent is put behind `out`, what came is told to `sink`.
    /// `challenge` draws random numbers.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        challenge: &mut dyn FnMut() -> Option<[u8; CHALLENGE_BYTES]>,
        out: &mut Vec<u8>,
        sink: &mut dyn FnMut(Heard<'_>),
    ) {
        let Self { decoder, desk } = self;
        decoder.push(bytes, |frame| match frame {
            Ok(frame) => desk.take(&frame, challenge, out, sink),
            Err(error) => sink(Heard::Broken(error)),
        });
    }

    /// The outcome of a request, as postcard: its frames are put behind `out`. Nothing is where the session is over.
    ///
    /// # Errors
    /// A message over [`MAX_MESSAGE`] bytes.
    pub fn outcome(
        &mut self,
        ticket: Ticket,
        kind: FrameType,
        message: Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let (message, Ticket { session, seq, life }) = (Zeroizing::new(message), ticket);
        if life != self.desk.life {
            return Ok(());
        }
        self.desk.send(kind, session, seq, &message, &Have::default(), out)?;
        let taken = &mut self.desk.taken;
        if let Some(of) = taken.iter_mut().find(|of| (of.session, of.seq) == (session, seq)) {
            of.outcome = Some((kind, message));
        }
        let done = taken.iter_mut().rev().filter(|of| of.outcome.is_some());
        done.skip(KEPT).for_each(|of| of.outcome = None);
        Ok(())
    }
}

impl Desk {
    fn take(
        &mut self,
        frame: &Frame<'_>,
        challenge: &mut dyn FnMut() -> Option<[u8; CHALLENGE_BYTES]>,
        out: &mut Vec<u8>,
        sink: &mut dyn FnMut(Heard<'_>),
    ) {
        if frame.kind == FrameType::Hello {
            match self.guard.greeted(frame, challenge) {
                Ok(challenge) => {
                    let challenge = challenge.as_ref().map_or(&[][..], |challenge| challenge);
                    let message = [challenge, self.version.as_bytes()].concat();
                    write(self.guard.line(), FrameType::Hello, frame, &message, out);
                }
                Err(reason) => self.refuse(frame, reason, out, sink),
            }
            return;
        }
        if !matches!(frame.kind, FrameType::Request | FrameType::Nack) {
            return;
        }
        match self.guard.check(frame) {
            Err(reason) => return self.refuse(frame, reason, out, sink),
            Ok(true) => {
                self.life += 1;
                self.taken.clear();
                self.request.wipe();
            }
            Ok(false) => {}
        }
        if frame.kind == FrameType::Nack {
            self.resend(frame, out);
        } else {
            self.take_part(frame, out, sink);
        }
    }

    fn refuse(
        &self,
        frame: &Frame<'_>,
        reason: &'static str,
        out: &mut Vec<u8>,
        sink: &mut dyn FnMut(Heard<'_>),
    ) {
        sink(Heard::Refused(reason));
        write(self.guard.line(), FrameType::Reject, frame, &[Reason::Greet as u8], out);
    }

    /// A part of a request.
    fn take_part(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>, sink: &mut dyn FnMut(Heard<'_>)) {
        let (session, seq) = (frame.session, frame.seq);
        let known = self.taken.iter().any(|of| (of.session, of.seq) == (session, seq));
        if known || self.guard.is_past(seq) {
            sink(Heard::Again);
            return self.reply(FrameType::Ack, frame, &[], out);
        }
        match self.request.push(frame).map(|whole| whole.is_some()) {
            Ok(true) => {
                self.guard.took(seq);
                if self.taken.len() >= RECENT {
                    self.taken.pop_front();
                }
                self.taken.push_back(Taken { session, seq, outcome: None });
                self.reply(FrameType::Ack, frame, &[], out);
                let ticket = Ticket { session, seq, life: self.life };
                sink(Heard::Request { ticket, message: self.request.message() });
                self.request.wipe();
            }
            Ok(false) if frame.fragment + 1 == frame.fragments => self.lacks(frame, out),
            Ok(false) => {}
            Err(error) => {
                sink(Heard::Broken(error));
                self.lacks(frame, out);
            }
        }
    }

    /// Says what of a request is there.
    fn lacks(&self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        let have = self.request.partial(frame.session, frame.seq);
        let payload = have.map_or(&[][..], |(have, of)| have.payload(of));
        self.reply(FrameType::Nack, frame, payload, out);
    }

    /// The terminal lacks something of an outcome.
    fn resend(&self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        let (session, seq) = (frame.session, frame.seq);
        let known = self.taken.iter().find(|of| (of.session, of.seq) == (session, seq));
        match known.map(|of| &of.outcome) {
            Some(Some((kind, message))) => {
                let have = Have::from_payload(frame.payload);
                // It was sent once: it fits.
                let _ = self.send(*kind, session, seq, message, &have, out);
            }
            Some(None) => self.reply(FrameType::Ack, frame, &[], out),
            None if self.request.partial(session, seq).is_some() => self.lacks(frame, out),
            None => self.reply(FrameType::Reject, frame, &[Reason::Unknown as u8], out),
        }
    }

    /// The frames of a message that are not there, and its last one in any case: behind it the terminal looks what it
    /// lacks.
    fn send(
        &self,
        kind: FrameType,
        session: u32,
        seq: u16,
        message: &[u8],
        have: &Have,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let frames = fragments(kind, session, seq, message)?;
        let Ok(key) = self.guard.key(session) else { return Ok(()) };
        for frame in frames.filter(|f| !have.has(f.fragment) || f.fragment + 1 == f.fragments) {
            put(key, &frame, out);
        }
        Ok(())
    }

    /// A frame of the session.
    fn reply(&self, kind: FrameType, to: &Frame<'_>, payload: &[u8], out: &mut Vec<u8>) {
        if let Ok(key) = self.guard.key(to.session) {
            write(key, kind, to, payload, out);
        }
    }
}

fn write(key: Option<&Key>, kind: FrameType, to: &Frame<'_>, payload: &[u8], out: &mut Vec<u8>) {
    let frame =
        Frame { kind, session: to.session, seq: to.seq, fragment: 0, fragments: 1, payload, tag: None };
    put(key, &frame, out);
}

fn put(key: Option<&Key>, frame: &Frame<'_>, out: &mut Vec<u8>) {
    let frame = key.map_or(*frame, |key| key.seal(frame, Direction::ToTerminal));
    let at = out.len();
    out.resize(at + MAX_FRAME, 0);
    // Payloads here are at most a fragment's.
    let n = encode(&frame, &mut out[at..]).unwrap_or(0);
    out.truncate(at + n);
}

#[cfg(test)]
mod tests;
