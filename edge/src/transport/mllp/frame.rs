//! Blocks of MLLP: a start byte, a message, two end bytes.

use locus_firmware_config::message::MAX_MESSAGE_BYTES;
use zeroize::{Zeroize as _, Zeroizing};

use crate::transport::MAX_INPUT_BYTES;

const START: u8 = 0x0b;
const END: u8 = 0x1c;
const RETURN: u8 = b'\r';

/// Bytes between two blocks after which a peer is taken for one that does not speak MLLP.
const MAX_NOISE: usize = 1_024;

/// What came whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// A message.
    Message(Zeroizing<Vec<u8>>),
    /// The start of one that is larger than a message may be, and how large it is.
    TooLarge(Zeroizing<Vec<u8>>, usize),
    /// One that was cut off by the start of another, or has an end that is none.
    Broken,
}

/// Why a connection is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hopeless {
    /// No block begins.
    Noise,
    /// A block does not end.
    Endless,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Outside,
    Inside,
    Ending,
}

/// Reads blocks out of bytes.
#[derive(Debug)]
pub(super) struct Framer {
    state: State,
    message: Zeroizing<Vec<u8>>,
    len: usize,
    noise: usize,
}

/// A message as a block.
pub(super) fn block(message: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(message.len() + 3));
    bytes.push(START);
    bytes.extend_from_slice(message);
    bytes.extend_from_slice(&[END, RETURN]);
    bytes
}

impl Framer {
    pub(super) fn new() -> Self {
        Self { state: State::Outside, message: Zeroizing::new(Vec::new()), len: 0, noise: 0 }
    }

    /// Whether a block has begun.
    pub(super) fn inside(&self) -> bool {
        self.state != State::Outside
    }

    fn begin(&mut self) {
        self.message.zeroize();
        // Room for all of it: a reallocation would leave a copy behind.
        self.message.reserve_exact(MAX_MESSAGE_BYTES);
        (self.state, self.len, self.noise) = (State::Inside, 0, 0);
    }

    fn end(&mut self) -> Block {
        self.state = State::Outside;
        let message = std::mem::take(&mut self.message);
        if self.len > MAX_MESSAGE_BYTES {
            Block::TooLarge(message, self.len)
        } else {
            Block::Message(message)
        }
    }

    /// Takes one byte.
    pub(super) fn push(&mut self, byte: u8) -> Result<Option<Block>, Hopeless> {
        match (self.state, byte) {
            (State::Outside, START) => self.begin(),
            // The line break that some senders put after a block.
            (State::Outside, RETURN | b'\n') => {}
            (State::Outside, _) => {
                self.noise += 1;
                if self.noise > MAX_NOISE {
                    return Err(Hopeless::Noise);
                }
            }
            (State::Inside, END) => self.state = State::Ending,
            (State::Ending, RETURN) => return Ok(Some(self.end())),
            (State::Inside | State::Ending, START) => {
                self.begin();
                return Ok(Some(Block::Broken));
            }
            (State::Ending, _) => {
                self.message.zeroize();
                self.state = State::Outside;
                return Ok(Some(Block::Broken));
            }
            (State::Inside, byte) => {
                self.len += 1;
                if self.len <= MAX_MESSAGE_BYTES {
                    self.message.push(byte);
                } else if self.len > MAX_INPUT_BYTES {
                    return Err(Hopeless::Endless);
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocks(bytes: &[u8]) -> Result<Vec<Block>, Hopeless> {
        let mut framer = Framer::new();
        let mut blocks = Vec::new();
        for &byte in bytes {
            blocks.extend(framer.push(byte)?);
        }
        Ok(blocks)
    }

    fn message(text: &[u8]) -> Block {
        Block::Message(Zeroizing::new(text.to_vec()))
    }

    #[test]
    fn messages_come_whole_and_broken_blocks_are_said() {
        assert_eq!(blocks(b"\x0bone\x1c\r\n\x0btwo\x1c\r").unwrap(), [message(b"one"), message(b"two")]);
        assert_eq!(blocks(b"x\x0bon\x0btwo\x1c\r").unwrap(), [Block::Broken, message(b"two")]);
        assert_eq!(blocks(b"\x0bone\x1cx\x0btwo\x1c\r").unwrap(), [Block::Broken, message(b"two")]);
        assert_eq!(blocks(b"\x0bone\x1c").unwrap(), []);
        assert_eq!(blocks(b"\x0b\x1c\r").unwrap(), [message(b"")]);
    }

    #[test]
    fn what_is_too_large_is_said_and_what_never_ends_is_left() {
        let fits = vec![b'x'; MAX_MESSAGE_BYTES];
        assert_eq!(blocks(&block(&fits)).unwrap(), [message(&fits)]);
        let over = [&fits[..], b"y"].concat();
        let kept = Zeroizing::new(fits.clone());
        assert_eq!(blocks(&block(&over)).unwrap(), [Block::TooLarge(kept, MAX_MESSAGE_BYTES + 1)]);
        assert_eq!(blocks(&block(&vec![b'x'; MAX_INPUT_BYTES + 1])), Err(Hopeless::Endless));
        assert_eq!(blocks(&[b'x'; MAX_NOISE + 1]), Err(Hopeless::Noise));
    }

    proptest! {
        #[test]
        fn after_any_noise_the_next_message_is_read(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = noise;
            bytes.extend_from_slice(&block(b"next"));
            prop_assert_eq!(blocks(&bytes).unwrap().pop(), Some(message(b"next")));
        }
    }
}
