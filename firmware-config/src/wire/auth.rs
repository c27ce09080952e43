//! Frames that only who has the line's key can make.
//!
//! A tag is HMAC-SHA-256 (RFC 2104), cut to 16 bytes, over the direction, the header and the payload. The key of the line
//! itself signs greetings only: each greeting is answered with a challenge of the box, and the key of what follows is
//! made of the line's key, the terminal's session number and the challenge. So a frame of another session, of the other
//! direction or of another line opens nothing, and within a session numbers only grow.

use core::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{FLAG_TAG, Frame, TAG_BYTES, VERSION};

/// Bytes of a line's key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a challenge.
pub const CHALLENGE_BYTES: usize = 16;

/// Who sends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// The terminal.
    ToBox = 1,
    /// The box.
    ToTerminal = 2,
}

/// A secret that terminal and box share.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; KEY_BYTES]);

/// Not the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Of 32 random bytes.
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    fn mac(&self, domain: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of every length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!());
        mac.update(domain);
        mac
    }

    /// The key of a session, made of the line's key.
    #[must_use]
    pub fn of_session(&self, session: u32, challenge: &[u8; CHALLENGE_BYTES]) -> Self {
        let mut mac = self.mac(b"locus-serial-session-v1\0");
        mac.update(&session.to_le_bytes());
        mac.update(challenge);
        Self(mac.finalize().into_bytes().into())
    }

    fn over(&self, frame: &Frame<'_>, direction: Direction) -> Hmac<Sha256> {
        let mut mac = self.mac(b"locus-serial-frame-v1\0");
        mac.update(&[direction as u8, VERSION, frame.kind as u8, FLAG_TAG]);
        mac.update(&frame.session.to_le_bytes());
        mac.update(&frame.seq.to_le_bytes());
        mac.update(&[frame.fragment, frame.fragments]);
        mac.update(&(frame.payload.len() as u16).to_le_bytes());
        mac.update(frame.payload);
        mac
    }

    /// The frame with its tag.
    #[must_use]
    pub fn seal<'a>(&self, frame: &Frame<'a>, direction: Direction) -> Frame<'a> {
        let whole: [u8; 32] = self.over(frame, direction).finalize().into_bytes().into();
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&whole[..TAG_BYTES]);
        Frame { tag: Some(tag), ..*frame }
    }

    /// Whether the frame has the tag of this key, in time that says nothing of where it differs.
    pub fn opens(&self, frame: &Frame<'_>, direction: Direction) -> bool {
        frame.tag.is_some_and(|tag| self.over(frame, direction).verify_truncated_left(&tag).is_ok())
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::{super::FrameType, *};

    const FRAME: Frame<'static> = Frame {
        kind: FrameType::Request,
        session: 7,
        seq: 3,
        fragment: 0,
        fragments: 2,
        payload: b"ACGT",
        tag: None,
    };

    #[test]
    fn a_tag_opens_its_own_frame_and_no_other() {
        let key = Key::new([1; KEY_BYTES]).of_session(7, &[2; CHALLENGE_BYTES]);
        let sealed = key.seal(&FRAME, Direction::ToBox);
        assert!(key.opens(&sealed, Direction::ToBox));
        let tag = sealed.tag;
        let others = [
            Frame { kind: FrameType::Answer, ..FRAME },
            Frame { session: 8, ..FRAME },
            Frame { seq: 4, ..FRAME },
            Frame { fragment: 1, ..FRAME },
            Frame { fragments: 3, ..FRAME },
            Frame { payload: b"ACGA", ..FRAME },
            Frame { payload: b"ACG", ..FRAME },
        ];
        for other in others {
            assert!(!key.opens(&Frame { tag, ..other }, Direction::ToBox), "{other:?}");
        }
        assert!(!key.opens(&sealed, Direction::ToTerminal), "a box's frame is not sent back to it");
        assert!(!key.opens(&FRAME, Direction::ToBox), "no tag");
        for another in [
            Key::new([1; KEY_BYTES]),
            Key::new([1; KEY_BYTES]).of_session(7, &[3; CHALLENGE_BYTES]),
            Key::new([1; KEY_BYTES]).of_session(8, &[2; CHALLENGE_BYTES]),
            Key::new([9; KEY_BYTES]).of_session(7, &[2; CHALLENGE_BYTES]),
        ] {
            assert!(!another.opens(&sealed, Direction::ToBox));
        }
    }

    #[test]
    fn a_tag_has_these_bytes_for_ever() {
        // Computed apart from this code, with Python's hmac.
        let key = Key::new([0x11; KEY_BYTES]).of_session(0x0102_0304, &[0x22; CHALLENGE_BYTES]);
        let tag = key.seal(&FRAME, Direction::ToBox).tag.map(hex::encode);
        assert_eq!(tag.as_deref(), Some("f4996f11c590abc475e214983fa00e6a"));
    }
}
