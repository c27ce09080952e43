//! A terminal on a serial line, without I/O and without allocation.
//!
//! [`Terminal`] is given the bytes that came and the time, and gives the bytes to send and what came of a request.
//! The loop around it is the same on a microcontroller and on a workstation:
//!
//! 1. write what [`Terminal::transmit`] gives until it gives nothing;
//! 2. look at [`Terminal::poll`]: an answer, a fault, busy or timed out;
//! 3. read until something comes or [`Terminal::wake_ms`] is there, and hand it to [`Terminal::receive`].
//!
//! What the line loses of a request or of its outcome is sent again, and nothing else. A box that knows nothing of a
//! request any more gets it under a new number: it knows it by its `id` and answers it once; so a request without an id
//! is not sent under another one. An outcome counts when its frames are whole, it belongs to this session and to the
//! number of the request, and it names the request's id: on any line it is the box's own, or there is none.

mod exchange;
mod keys;
mod message;

use core::fmt;

use zeroize::Zeroize as _;

pub use exchange::Patience;
pub use message::{
    AnswerRef, AroundRef, BaseAttributionRef, CodonRef, EngineRef, EvidenceRef, FaultRef, MAX_TEXTS,
    ModelRef, ReceiptRef, RequestRef, Texts, TranscriptRef,
};

use crate::wire::{Decoder, Key, MAX_FRAME, MAX_MESSAGE, Reassembler};
use exchange::{Exchange, Outcome};

/// Room that a request by `variant` takes at most, with every name in it.
pub const REQUEST_BYTES: usize = 512;
/// Room for an answer of a box, with some warnings. A larger one is told as [`Event::NoRoom`].
pub const ANSWER_BYTES: usize = 4_096;

/// Why a request is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// It does not fit.
    #[error(
        "got a request that does not fit, expected at most {room} bytes; send a shorter stretch or give more room"
    )]
    TooLarge {
        /// Bytes that there are for it.
        room: usize,
    },
}

/// What came of a request. All but [`Event::Busy`] end it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "without alloc there is no box to put one in")]
pub enum Event<'a> {
    /// The box answers.
    Answer {
        /// What.
        answer: AnswerRef<'a>,
        /// The same as postcard.
        bytes: &'a [u8],
    },
    /// The box does not answer, and says why.
    Fault {
        /// Why.
        fault: FaultRef<'a>,
        /// The same as postcard.
        bytes: &'a [u8],
    },
    /// The box has too much to do: the request is sent again, unless [`Terminal::forget`] is called.
    Busy {
        /// When.
        again_ms: u64,
        /// The box's own words, as postcard.
        bytes: &'a [u8],
    },
    /// No outcome within [`Patience::give_up_ms`].
    TimedOut,
    /// The box does not take what this terminal sends: the line has a key, and this terminal has none or another one.
    Rejected,
    /// Whole and undamaged, and yet neither answer nor fault: the box may speak a later version.
    Unreadable {
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// The outcome is larger than the room for it; an answer is in the box's journal all the same.
    NoRoom {
        /// Bytes of room there are.
        got: usize,
    },
}

/// One terminal with one request at a time. `Q` and `A` hold the request and the outcome, as postcard: arrays such as
/// `[u8; REQUEST_BYTES]` and `[u8; ANSWER_BYTES]`, or whatever else lends bytes; room for more than
/// [`MAX_MESSAGE`] bytes is never used.
pub struct Terminal<Q, A>
where
    Q: AsRef<[u8]> + AsMut<[u8]>,
    A: AsRef<[u8]> + AsMut<[u8]>,
{
    decoder: Decoder,
    exchange: Exchange<Q, A>,
}

impl<Q, A> Terminal<Q, A>
where
    Q: AsRef<[u8]> + AsMut<[u8]>,
    A: AsRef<[u8]> + AsMut<[u8]>,
{
    /// A terminal that has asked nothing yet. `session` is drawn at random when it starts, so that an outcome for
    /// another life of it is not taken for its own.
    pub fn new(session: u32, request: Q, answer: A) -> Self {
        Self { decoder: Decoder::new(), exchange: Exchange::new(session, request, Reassembler::new(answer)) }
    }

    /// Signs what it sends with the key that the box has for this line, and takes nothing that is not signed so.
    #[must_use]
    pub fn with_key(mut self, key: Key) -> Self {
        self.exchange.use_key(key);
        self
    }

    /// Begins to ask, from `now_ms` on a clock that only goes forward. A request before it is forgotten.
    ///
    /// # Errors
    /// [`AskError::TooLarge`].
    pub fn ask(&mut self, request: &RequestRef<'_>, patience: Patience, now_ms: u64) -> Result<(), AskError> {
        self.forget();
        let room = self.exchange.request.as_mut();
        let usable = room.len().min(MAX_MESSAGE);
        let written = postcard::to_slice(request, &mut room[..usable]).map(|bytes| bytes.len());
        match written {
            Ok(len) => self.exchange.begin(len, request.id.is_some(), patience, now_ms),
            Err(_) => {
                room[..usable].zeroize();
                return Err(AskError::TooLarge { room: usable });
            }
        }
        Ok(())
    }

    /// The next frame to send, written into `out`; `None` where there is nothing to send now.
    pub fn transmit<'o>(&mut self, now_ms: u64, out: &'o mut [u8; MAX_FRAME]) -> Option<&'o [u8]> {
        self.exchange.transmit(now_ms, out).map(|n| &out[..n])
    }

    /// Takes bytes that came, in any portions.
    pub fn receive(&mut self, bytes: &[u8], now_ms: u64) {
        let Self { decoder, exchange } = self;
        decoder.push(bytes, |frame| {
            // Of a broken frame nothing is known, not even whose it was: time tells that something is missing.
            if let Ok(frame) = frame {
                exchange.take(&frame, now_ms);
            }
        });
    }

    /// What there is to say at this time. To be called after every [`Terminal::receive`] and whenever
    /// [`Terminal::wake_ms`] has come; what it lends is there until the next request.
    pub fn poll(&mut self, now_ms: u64) -> Option<Event<'_>> {
        let outcome = self.exchange.poll(now_ms)?;
        let bytes = self.exchange.answer.message();
        Some(match outcome {
            Outcome::Answer => match postcard::from_bytes(bytes) {
                Ok(answer) => Event::Answer { answer, bytes },
                Err(_) => Event::Unreadable { bytes },
            },
            Outcome::Fault => match postcard::from_bytes(bytes) {
                Ok(fault) => Event::Fault { fault, bytes },
                Err(_) => Event::Unreadable { bytes },
            },
            Outcome::Busy { again_ms } => Event::Busy { again_ms, bytes },
            Outcome::TimedOut => Event::TimedOut,
            Outcome::Rejected => Event::Rejected,
            Outcome::NoRoom { got } => Event::NoRoom { got },
        })
    }

    /// When [`Terminal::poll`] has something to do though nothing comes; `None` while nothing is asked.
    pub fn wake_ms(&self) -> Option<u64> {
        self.exchange.wake_ms()
    }

    /// Drops the request and writes over it and what came of it: both may be of a patient.
    pub fn forget(&mut self) {
        self.exchange.forget();
    }
}

/// No bytes: they may be of a patient.
impl<Q, A> fmt::Debug for Terminal<Q, A>
where
    Q: AsRef<[u8]> + AsMut<[u8]>,
    A: AsRef<[u8]> + AsMut<[u8]>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

impl<Q, A> Drop for Terminal<Q, A>
where
    Q: AsRef<[u8]> + AsMut<[u8]>,
    A: AsRef<[u8]> + AsMut<[u8]>,
{
    fn drop(&mut self) {
        self.forget();
    }
}
