//! Frames in a stream of bytes, and messages in frames.

use core::fmt;

use zeroize::Zeroize as _;

use super::{Frame, FrameType, MAX_FRAME, MAX_MESSAGE, MAX_PAYLOAD, WireError, decode};

/// Finds frames in a stream of bytes; takes up again at the next zero after anything broken.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: heapless::Vec<u8, MAX_FRAME>,
    overlong: bool,
}

impl Decoder {
    /// An empty decoder.
    pub const fn new() -> Self {
        Self { buffer: heapless::Vec::new(), overlong: false }
    }

    /// Takes bytes and calls `sink` for each frame, or for what stood in a frame's place.
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Result<Frame<'_>, WireError>)) {
        for &b in bytes {
            if b != 0 {
                self.overlong |= self.buffer.push(b).is_err();
                continue;
            }
            if self.overlong {
                sink(Err(WireError::Overlong));
            } else if !self.buffer.is_empty() {
                sink(decode(&mut self.buffer));
            }
            self.wipe();
            self.overlong = false;
        }
    }

    /// What it holds may be of a patient.
    fn wipe(&mut self) {
        self.buffer.as_mut_slice().zeroize();
        self.buffer.clear();
    }
}

/// Splits a message into frames.
///
/// # Errors
/// A message over [`MAX_MESSAGE`] bytes.
pub fn fragments<'a>(
    kind: FrameType,
    session: u32,
    seq: u16,
    message: &'a [u8],
) -> Result<impl Iterator<Item = Frame<'a>>, WireError> {
    if message.len() > MAX_MESSAGE {
        return Err(WireError::Length { got: message.len(), expected: MAX_MESSAGE });
    }
    let count = fragments_of(message);
    Ok((0..count).map(move |fragment| part(kind, session, seq, message, fragment)))
}

/// Frames that a message of at most [`MAX_MESSAGE`] bytes takes.
pub(crate) const fn fragments_of(message: &[u8]) -> u8 {
    let count = message.len().div_ceil(MAX_PAYLOAD);
    if count == 0 { 1 } else { count as u8 }
}

/// One frame of a message; `fragment` is below [`fragments_of`].
pub(crate) fn part(kind: FrameType, session: u32, seq: u16, message: &[u8], fragment: u8) -> Frame<'_> {
    let from = usize::from(fragment) * MAX_PAYLOAD;
    let payload = &message[from..message.len().min(from + MAX_PAYLOAD)];
    Frame { kind, session, seq, fragment, fragments: fragments_of(message), payload, tag: None }
}

/// Which fragments of a message are there: bit `n % 8` of byte `n / 8` is fragment `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Have([u8; HAVE_BYTES]);

/// Bytes of a [`Have`] for the longest message.
const HAVE_BYTES: usize = 32;

impl Have {
    /// Reads what a [`FrameType::Nack`] carries; what is left out is not there.
    pub fn from_payload(payload: &[u8]) -> Self {
        let mut have = Self::default();
        for (to, from) in have.0.iter_mut().zip(payload) {
            *to = *from;
        }
        have
    }

    /// What a [`FrameType::Nack`] for a message of so many fragments carries.
    pub fn payload(&self, fragments: u8) -> &[u8] {
        &self.0[..usize::from(fragments).div_ceil(8)]
    }

    /// Whether a fragment is there.
    pub const fn has(&self, fragment: u8) -> bool {
        self.0[fragment as usize / 8] & (1 << (fragment % 8)) != 0
    }

    /// The first fragment from `from` on that is not there, of so many.
    pub fn missing(&self, from: u8, fragments: u8) -> Option<u8> {
        (from..fragments).find(|fragment| !self.has(*fragment))
    }

    const fn add(&mut self, fragment: u8) {
        self.0[fragment as usize / 8] |= 1 << (fragment % 8);
    }
}

/// Puts the fragments of one message together in a caller's buffer, in whatever order and however often they come. A
/// fragment of another message begins that one: two are never mixed. What is dropped is written over.
pub struct Reassembler<B> {
    buffer: B,
    len: usize,
    message: Option<Message>,
    have: Have,
    whole: bool,
}

/// Which message: kind, session, seq, fragments.
type Message = (FrameType, u32, u16, u8);

impl<B> Reassembler<B> {
    /// An empty one over `buffer`, which bounds the message.
    pub const fn new(buffer: B) -> Self {
        Self { buffer, len: 0, message: None, have: Have([0; HAVE_BYTES]), whole: false }
    }

    /// Which fragments are there of a message of this session and number, and how many it has; `None` where none is.
    pub fn partial(&self, session: u32, seq: u16) -> Option<(&Have, u8)> {
        let (_, _, _, fragments) = self.message.filter(|(_, s, n, _)| (*s, *n) == (session, seq))?;
        Some((&self.have, fragments))
    }
}

/// Lengths only: what it holds may be of a patient.
impl<B> fmt::Debug for Reassembler<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reassembler")
            .field("len", &self.len)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Reassembler<B> {
    /// Writes over what is left of the last message.
    pub fn wipe(&mut self) {
        self.buffer.as_mut()[..self.len].zeroize();
        (self.len, self.message, self.have, self.whole) = (0, None, Have::default(), false);
    }

    /// The whole message after [`Reassembler::push`] gave one; nothing before.
    pub fn message(&self) -> &[u8] {
        if self.whole { &self.buffer.as_ref()[..self.len] } else { &[] }
    }

    /// Takes a frame; gives the whole message with the fragment that completes it, once.
    ///
    /// # Errors
    /// A fragment that is shorter than those behind it allow, or a message larger than the buffer: what was there is
    /// dropped.
    pub fn push(&mut self, frame: &Frame<'_>) -> Result<Option<&[u8]>, WireError> {
        let message = (frame.kind, frame.session, frame.seq, frame.fragments);
        if self.message != Some(message) {
            self.wipe();
            self.message = Some(message);
        }
        let last = frame.fragment + 1 == frame.fragments;
        if !last && frame.payload.len() != MAX_PAYLOAD {
            self.wipe();
            return Err(WireError::Length { got: frame.payload.len(), expected: MAX_PAYLOAD });
        }
        if self.have.has(frame.fragment) {
            return Ok(None);
        }
        let from = usize::from(frame.fragment) * MAX_PAYLOAD;
        let (end, room) = (from + frame.payload.len(), self.buffer.as_ref().len());
        if end > room {
            self.wipe();
            return Err(WireError::Buffer { got: room, expected: end });
        }
        self.buffer.as_mut()[from..end].copy_from_slice(frame.payload);
        self.len = self.len.max(end);
        self.have.add(frame.fragment);
        self.whole = self.have.missing(0, frame.fragments).is_none();
        Ok(if self.whole { Some(self.message()) } else { None })
    }
}
