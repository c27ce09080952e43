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

/// Puts the fragments of one message together in a caller's buffer. Fragments come in order; one out of
/// order drops the message, so that two messages are never mixed. What is dropped is written over.
pub struct Reassembler<B> {
    buffer: B,
    len: usize,
    next: Option<Part>,
}

/// Which fragment of which message: kind, session, seq, fragment and fragments.
type Part = (FrameType, u32, u16, u8, u8);

impl<B> Reassembler<B> {
    /// An empty one over `buffer`, which bounds the message.
    pub const fn new(buffer: B) -> Self {
        Self { buffer, len: 0, next: None }
    }
}

/// Lengths only: what it holds may be of a patient.
impl<B> fmt::Debug for Reassembler<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reassembler")
            .field("len", &self.len)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Reassembler<B> {
    /// Writes over what is left of the last message.
    pub fn wipe(&mut self) {
        self.buffer.as_mut()[..self.len].zeroize();
        self.len = 0;
        self.next = None;
    }

    /// What has been put together so far; the whole message after [`Reassembler::push`] gave one.
    pub fn message(&self) -> &[u8] {
        &self.buffer.as_ref()[..self.len]
    }

    /// Takes a frame; gives the whole message with its last fragment.
    ///
    /// # Errors
    /// A fragment out of order, or a message larger than the buffer: what was there is dropped.
    pub fn push(&mut self, frame: &Frame<'_>) -> Result<Option<&[u8]>, WireError> {
        let part = |fragment| (frame.kind, frame.session, frame.seq, fragment, frame.fragments);
        if frame.fragment == 0 {
            self.wipe();
        } else if self.next != Some(part(frame.fragment)) {
            self.wipe();
            return Err(WireError::Fragment { fragment: frame.fragment, fragments: frame.fragments });
        }
        let (end, room) = (self.len + frame.payload.len(), self.buffer.as_ref().len());
        if end > room {
            self.wipe();
            return Err(WireError::Buffer { got: room, expected: end });
        }
        self.buffer.as_mut()[self.len..end].copy_from_slice(frame.payload);
        self.len = end;
        self.next = frame.fragment.checked_add(1).filter(|&next| next < frame.fragments).map(part);
        Ok(if self.next.is_none() { Some(self.message()) } else { None })
    }
}
