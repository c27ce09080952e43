//! Serial frames, without I/O and without allocation.
//!
//! A frame is COBS-encoded and ended by 0x00. Header, little-endian: version u8, type u8, flags u8
//! (bit 0: a 16-byte tag stands before the CRC), session u32, seq u16, fragment u8, fragments u8, len
//! u16; then the payload of at most 240 bytes, the tag, and CRC-32/ISO-HDLC over all of it.

mod auth;
mod stream;

use crc::{CRC_32_ISO_HDLC, Crc};

pub use auth::{CHALLENGE_BYTES, Direction, KEY_BYTES, Key};
pub use stream::{Decoder, Have, Reassembler, fragments};
pub(crate) use stream::{fragments_of, part};

/// Protocol version.
pub const VERSION: u8 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 13;
/// Most bytes of payload in one frame.
pub const MAX_PAYLOAD: usize = 240;
/// Bytes of the tag.
pub const TAG_BYTES: usize = 16;
/// Bytes of the CRC.
pub const CRC_BYTES: usize = 4;
/// Longest frame before COBS.
pub const MAX_RAW: usize = HEADER_BYTES + MAX_PAYLOAD + TAG_BYTES + CRC_BYTES;
/// Longest frame on the wire, with COBS' overhead and the final zero.
pub const MAX_FRAME: usize = MAX_RAW + MAX_RAW / 254 + 2;
/// Largest message.
pub const MAX_MESSAGE: usize = 60_000;

const FLAG_TAG: u8 = 1;
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum FrameType {
    /// A terminal says that it is there.
    Hello = 1,
    /// Part of a request.
    Request = 2,
    /// Part of an answer.
    Answer = 3,
    /// Part of a fault.
    Fault = 4,
    /// The message of `seq` is whole.
    Ack = 5,
    /// The message of `seq` is not whole; the payload is the [`Have`] of what is there: send the rest again.
    Nack = 6,
    /// What came is not taken, and sending it again does not help; the payload is a [`Reason`].
    Reject = 7,
}

impl FrameType {
    const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Hello,
            2 => Self::Request,
            3 => Self::Answer,
            4 => Self::Fault,
            5 => Self::Ack,
            6 => Self::Nack,
            7 => Self::Reject,
            _ => return None,
        })
    }
}

/// Why a frame is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Reason {
    /// The line has a key: greet first, and sign.
    Greet = 1,
    /// Nothing is known of the message of `seq`: ask anew.
    Unknown = 2,
}

impl Reason {
    /// Reads what a [`FrameType::Reject`] carries.
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        match payload {
            [1] => Some(Self::Greet),
            [2] => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: FrameType,
    /// Chosen at random by the terminal when it starts.
    pub session: u32,
    /// Number of the message in the session.
    pub seq: u16,
    /// Which fragment, from 0.
    pub fragment: u8,
    /// How many there are, from 1.
    pub fragments: u8,
    /// Its bytes.
    pub payload: &'a [u8],
    /// Authentication tag, where there is one.
    pub tag: Option<[u8; TAG_BYTES]>,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Longer than any frame.
    #[error("a frame is longer than {MAX_FRAME} bytes")]
    Overlong,
    /// COBS is broken.
    #[error("the COBS encoding is broken")]
    Cobs,
    /// Shorter than header and CRC, or than its own length says.
    #[error("a frame is {got} bytes long, its header says {expected}")]
    Length {
        /// Bytes there are.
        got: usize,
        /// Bytes there should be.
        expected: usize,
    },
    /// The CRC disagrees.
    #[error("the CRC is {got:#010x}, expected {expected:#010x}")]
    Crc {
        /// In the frame.
        got: u32,
        /// Over its bytes.
        expected: u32,
    },
    /// Another protocol version.
    #[error("protocol version {got}, expected {VERSION}")]
    Version {
        /// In the frame.
        got: u8,
    },
    /// An unknown frame type or flag.
    #[error("frame type {kind} with flags {flags:#04x} is not known")]
    Kind {
        /// Type.
        kind: u8,
        /// Flags.
        flags: u8,
    },
    /// A fragment number that cannot be.
    #[error("fragment {fragment} of {fragments} cannot be")]
    Fragment {
        /// Which.
        fragment: u8,
        /// Of how many.
        fragments: u8,
    },
    /// The caller's buffer is too small.
    #[error("the buffer holds {got} bytes, expected {expected}")]
    Buffer {
        /// Bytes there are.
        got: usize,
        /// Bytes that are needed.
        expected: usize,
    },
}

/// Writes a frame with its final zero into `out`; returns its length.
///
/// # Errors
/// A payload over [`MAX_PAYLOAD`], a fragment number that cannot be, or a buffer below [`MAX_FRAME`].
pub fn encode(frame: &Frame<'_>, out: &mut [u8]) -> Result<usize, WireError> {
    if frame.payload.len() > MAX_PAYLOAD {
        return Err(WireError::Length { got: frame.payload.len(), expected: MAX_PAYLOAD });
    }
    if out.len() < MAX_FRAME {
        return Err(WireError::Buffer { got: out.len(), expected: MAX_FRAME });
    }
    check_fragment(frame.fragment, frame.fragments)?;
    let mut raw = heapless::Vec::<u8, MAX_RAW>::new();
    let mut put = |bytes: &[u8]| raw.extend_from_slice(bytes).map_err(|_| WireError::Overlong);
    put(&[VERSION, frame.kind as u8, if frame.tag.is_some() { FLAG_TAG } else { 0 }])?;
    put(&frame.session.to_le_bytes())?;
    put(&frame.seq.to_le_bytes())?;
    put(&[frame.fragment, frame.fragments])?;
    put(&(frame.payload.len() as u16).to_le_bytes())?;
    put(frame.payload)?;
    if let Some(tag) = &frame.tag {
        put(tag)?;
    }
    let crc = CRC.checksum(&raw);
    raw.extend_from_slice(&crc.to_le_bytes()).map_err(|_| WireError::Overlong)?;
    let n = cobs::encode(&raw, out);
    out[n] = 0;
    Ok(n + 1)
}

/// Reads a frame from COBS bytes without the final zero, decoding them in place.
///
/// # Errors
/// [`WireError`]; nothing of a frame whose CRC disagrees is looked at.
pub fn decode(bytes: &mut [u8]) -> Result<Frame<'_>, WireError> {
    if bytes.len() > MAX_FRAME {
        return Err(WireError::Overlong);
    }
    let n = cobs::decode_in_place(bytes).map_err(|_| WireError::Cobs)?;
    let raw = &bytes[..n];
    let Some((body, crc)) = raw.split_last_chunk::<CRC_BYTES>().filter(|(b, _)| b.len() >= HEADER_BYTES)
    else {
        return Err(WireError::Length { got: n, expected: HEADER_BYTES + CRC_BYTES });
    };
    let (got, expected) = (u32::from_le_bytes(*crc), CRC.checksum(body));
    if got != expected {
        return Err(WireError::Crc { got, expected });
    }
    let (header, rest) = body.split_at(HEADER_BYTES);
    if header[0] != VERSION {
        return Err(WireError::Version { got: header[0] });
    }
    let (kind, flags) = (header[1], header[2]);
    let Some(known) = FrameType::from_u8(kind).filter(|_| flags & !FLAG_TAG == 0) else {
        return Err(WireError::Kind { kind, flags });
    };
    let (fragment, fragments) = (header[9], header[10]);
    check_fragment(fragment, fragments)?;
    let len = usize::from(u16::from_le_bytes([header[11], header[12]]));
    let tag_bytes = if flags & FLAG_TAG == 0 { 0 } else { TAG_BYTES };
    if len > MAX_PAYLOAD || rest.len() != len + tag_bytes {
        return Err(WireError::Length { got: rest.len(), expected: len + tag_bytes });
    }
    let (payload, tag) = rest.split_at(len);
    Ok(Frame {
        kind: known,
        session: u32::from_le_bytes([header[3], header[4], header[5], header[6]]),
        seq: u16::from_le_bytes([header[7], header[8]]),
        fragment,
        fragments,
        payload,
        tag: tag.try_into().ok(),
    })
}

const fn check_fragment(fragment: u8, fragments: u8) -> Result<(), WireError> {
    if fragments == 0 || fragment >= fragments {
        return Err(WireError::Fragment { fragment, fragments });
    }
    Ok(())
}

#[cfg(all(test, feature = "std"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use proptest::prelude::*;

    use super::*;

    fn wire(kind: FrameType, message: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in fragments(kind, 7, 9, message).unwrap() {
            let mut out = [0; MAX_FRAME];
            let n = encode(&frame, &mut out).unwrap();
            bytes.extend_from_slice(&out[..n]);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let (mut decoder, mut buffer) = (Decoder::new(), vec![0; MAX_MESSAGE]);
        let mut reassembler = Reassembler::new(&mut buffer);
        let (mut messages, mut errors) = (Vec::new(), 0);
        decoder.push(bytes, |frame| {
            match frame.and_then(|f| reassembler.push(&f).map(|m| m.map(<[u8]>::to_vec))) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => {}
                Err(_) => errors += 1,
            }
        });
        (messages, errors)
    }

    #[test]
    fn an_empty_request_has_these_bytes_for_ever() {
        // Computed apart from this code, with another COBS and CRC-32.
        let golden = "03010202070101020901020101051e21c8fa00";
        assert_eq!(hex::encode(wire(FrameType::Request, b"")), golden);
    }

    #[test]
    fn the_longest_message_goes_through_and_one_more_byte_does_not() {
        let message: Vec<u8> = (0..MAX_MESSAGE).map(|i| (i * 31) as u8).collect();
        assert_eq!(read(&wire(FrameType::Answer, &message)), (vec![message], 0));
        assert!(fragments(FrameType::Answer, 1, 1, &[0; MAX_MESSAGE + 1]).is_err());
    }

    #[test]
    fn after_noise_the_next_frame_is_read() {
        let mut bytes = vec![0x55; 5000];
        bytes.push(0);
        bytes.extend(wire(FrameType::Hello, b"x"));
        assert_eq!(read(&bytes), (vec![b"x".to_vec()], 1));
    }

    #[test]
    fn a_tag_is_carried_and_covered_by_the_crc() {
        let frame = Frame {
            kind: FrameType::Ack,
            session: 1,
            seq: 2,
            fragment: 0,
            fragments: 1,
            payload: b"p",
            tag: Some([7; 16]),
        };
        let mut out = [0; MAX_FRAME];
        let n = encode(&frame, &mut out).unwrap();
        let mut damaged = out;
        let tag = damaged.windows(TAG_BYTES).position(|w| w == [7; 16]).unwrap();
        damaged[tag + 5] ^= 1;
        assert!(matches!(decode(&mut damaged[..n - 1]), Err(WireError::Crc { .. })));
        assert_eq!(decode(&mut out[..n - 1]).unwrap(), frame);
    }

    #[test]
    fn fragments_come_in_any_order_and_what_is_dropped_is_written_over() {
        let part = |seq, fragment, fragments, payload| Frame {
            kind: FrameType::Request,
            session: 1,
            seq,
            fragment,
            fragments,
            payload,
            tag: None,
        };
        const FULL: [u8; MAX_PAYLOAD] = [b'A'; MAX_PAYLOAD];
        let mut buffer = [0; 2 * MAX_PAYLOAD + 4];
        let mut reassembler = Reassembler::new(&mut buffer);
        assert_eq!(reassembler.push(&part(1, 2, 3, b"ACG")), Ok(None));
        assert_eq!(reassembler.push(&part(1, 0, 3, &FULL)), Ok(None));
        assert_eq!(reassembler.push(&part(1, 0, 3, &FULL)), Ok(None), "twice");
        assert!(reassembler.message().is_empty(), "not whole");
        let (have, of) = reassembler.partial(1, 1).unwrap();
        assert_eq!((have.payload(of), have.missing(0, of)), (&[0b101][..], Some(1)));
        let whole = [&FULL[..], &FULL, b"ACG"].concat();
        assert_eq!(reassembler.push(&part(1, 1, 3, &FULL)).unwrap(), Some(&whole[..]));
        assert_eq!(reassembler.push(&part(1, 1, 3, &FULL)), Ok(None), "once");
        assert_eq!(reassembler.partial(1, 2), None);
        let dropped_by = |frame: Frame<'_>| {
            let mut buffer = [0; MAX_PAYLOAD + 4];
            let mut reassembler = Reassembler::new(&mut buffer);
            assert_eq!(reassembler.push(&part(1, 0, 3, &FULL)), Ok(None));
            let refused = reassembler.push(&frame).is_err();
            (refused, buffer.iter().filter(|b| **b != 0).count())
        };
        assert_eq!(dropped_by(part(1, 1, 3, b"A")), (true, 0), "shorter than what follows allows");
        assert_eq!(dropped_by(part(1, 1, 3, &FULL)), (true, 0), "more than the buffer holds");
        assert_eq!(dropped_by(part(2, 0, 1, b"T")), (false, 1), "of another message");
        assert_eq!(dropped_by(part(1, 0, 1, b"T")), (false, 1), "of another number of fragments");
    }

    proptest! {
        #[test]
        fn a_damaged_stream_never_yields_another_message(
            message in proptest::collection::vec(any::<u8>(), 0..1200),
            at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>(), twice in any::<bool>(),
        ) {
            let mut bytes = wire(FrameType::Request, &message);
            let i = at.index(bytes.len());
            if cut { bytes.remove(i); } else { bytes[i] ^= 1 << bit; }
            if twice { let copy = bytes.clone(); bytes.extend(copy); }
            for got in read(&bytes).0 {
                prop_assert_eq!(&got, &message);
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            read(&bytes);
        }
    }
}
