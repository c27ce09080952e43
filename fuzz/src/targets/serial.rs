//! Serial lines: frames, the box's end, the terminal's end.

use locus_firmware_config::{
    line::{Heard, Line},
    message::Request,
    terminal::{Patience, RequestRef, Terminal},
    wire::{
        CHALLENGE_BYTES, Decoder, Direction, Frame, FrameType, Key, MAX_FRAME, MAX_MESSAGE, Reassembler,
        WireError, decode, encode,
    },
};

const KINDS: [FrameType; 8] = [
    FrameType::Hello,
    FrameType::Request,
    FrameType::Answer,
    FrameType::Fault,
    FrameType::Ack,
    FrameType::Nack,
    FrameType::Reject,
    FrameType::Request,
];
const SESSIONS: [u32; 4] = [7, 1, u32::MAX, 0];
const CHALLENGE: [u8; CHALLENGE_BYTES] = [9; CHALLENGE_BYTES];
/// Most frames of a case.
const FRAMES: usize = 600;

fn line_key() -> Key {
    Key::new([5; 32])
}

/// What comes over a line: the bytes themselves where the first one is even; else frames that the bytes describe, so
/// that what lies behind CRC and tag is reached too. Eight bytes of description stand before each payload: kind, session
/// and seal, number, fragment, of how many, length.
pub(crate) fn stream(bytes: &[u8], towards: Direction) -> Vec<u8> {
    let Some((mode, mut rest)) = bytes.split_first() else { return Vec::new() };
    if mode & 1 == 0 {
        return rest.to_vec();
    }
    let (mut out, mut count) = (Vec::new(), 0);
    while let Some((&[kind, session, low, high, fragment, of, len, _], behind)) =
        rest.split_first_chunk::<8>()
        && count < FRAMES
    {
        count += 1;
        let (payload, behind) = behind.split_at(behind.len().min(len.min(240).into()));
        rest = behind;
        let kind = KINDS[usize::from(kind) % KINDS.len()];
        let (seal, session) = (session >> 6, SESSIONS[usize::from(session) % SESSIONS.len()]);
        let (of, seq) = (of.max(1), u16::from_le_bytes([low, high]));
        let frame = Frame { kind, session, seq, fragment: fragment % of, fragments: of, payload, tag: None };
        let key = match seal {
            0 => None,
            1 => Some(line_key()),
            2 => Some(line_key().of_session(session, &CHALLENGE)),
            _ => Some(Key::new([1; 32])),
        };
        let frame = key.map_or(frame, |key| key.seal(&frame, towards));
        let mut one = [0; MAX_FRAME];
        let n = encode(&frame, &mut one).expect("what is described is a frame");
        out.extend_from_slice(&one[..n]);
    }
    out
}

/// What was read: kind, session, number and payload of every frame, or why it is none.
type Read = Vec<Result<(u8, u32, u16, Vec<u8>), WireError>>;

fn read(bytes: &[u8], portion: usize) -> (Read, Vec<Vec<u8>>) {
    let (mut decoder, mut buffer) = (Decoder::new(), vec![0; MAX_MESSAGE]);
    let mut reassembler = Reassembler::new(&mut buffer);
    let (mut frames, mut messages) = (Vec::new(), Vec::new());
    for part in bytes.chunks(portion) {
        decoder.push(part, |frame| match frame {
            Err(error) => frames.push(Err(error)),
            Ok(frame) => {
                let mut again = [0; MAX_FRAME];
                let n = encode(&frame, &mut again).expect("what was decoded encodes");
                assert_eq!(again[n - 1], 0, "a frame ends with a zero");
                assert!(!again[..n - 1].contains(&0), "and holds no other");
                assert_eq!(decode(&mut again[..n - 1]), Ok(frame), "a frame is read as it was written");
                frames.push(Ok((frame.kind as u8, frame.session, frame.seq, frame.payload.to_vec())));
                if let Ok(Some(message)) = reassembler.push(&frame) {
                    assert!(message.len() <= MAX_MESSAGE);
                    messages.push(message.to_vec());
                }
            }
        });
    }
    (frames, messages)
}

/// Frames encode again to themselves, and portions do not matter.
pub(super) fn wire(bytes: &[u8]) {
    let stream = stream(bytes, Direction::ToBox);
    let whole = read(&stream, stream.len().max(1));
    assert_eq!(whole, read(&stream, 1 + bytes.len() % 7), "portions do not matter");
    assert!(whole.0.len() <= stream.len(), "no more frames than bytes");
}

fn box_hears(bytes: &[u8], portion: usize, key: Option<Key>) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut line = Line::new(key, "1.0.0");
    let (mut out, mut messages) = (Vec::new(), Vec::new());
    for part in bytes.chunks(portion) {
        let mut tickets = Vec::new();
        line.receive(part, &mut || Some(CHALLENGE), &mut out, &mut |heard| {
            if let Heard::Request { ticket, message } = heard {
                tickets.push(ticket);
                messages.push(message.to_vec());
            }
        });
        for ticket in tickets {
            line.outcome(ticket, FrameType::Answer, vec![3; 500], &mut out)
                .expect("an answer of 500 bytes fits");
        }
    }
    (out, messages)
}

fn boxed(bytes: &[u8], key: Option<Key>) {
    let stream = stream(bytes, Direction::ToBox);
    // By the byte, so that an answer is there before what comes behind its request.
    let (out, messages) = box_hears(&stream, 1, key.clone());
    assert_eq!((&out, &messages), (&box_hears(&stream, 1, key).0, &messages), "the same every time");
    assert!(messages.iter().all(|message| message.len() <= MAX_MESSAGE));
    messages.iter().for_each(|message| drop(Request::from_postcard(message)));
    // An answer of 500 bytes has three frames.
    let came = stream.iter().filter(|byte| **byte == 0).count() + messages.len();
    assert!(out.iter().filter(|byte| **byte == 0).count() <= 3 * came, "no more is said than is asked for");
    let mut decoder = Decoder::new();
    decoder.push(&out, |frame| {
        frame.expect("the box says frames alone");
    });
}

/// What the box says is frames, bounded by what came, and the same every time.
pub(super) fn line(bytes: &[u8]) {
    boxed(bytes, None);
}

/// As [`line`], on a line with a key: only what is sealed is taken.
pub(super) fn line_with_key(bytes: &[u8]) {
    boxed(bytes, Some(line_key()));
}

/// Whatever comes, an exchange ends.
pub(super) fn terminal(bytes: &[u8]) {
    let (with_key, bytes) = bytes.split_first().map_or((0, bytes), |(first, rest)| (first & 1, rest));
    let (portion, bytes) =
        bytes.split_first().map_or((1, bytes), |(first, rest)| (1 + usize::from(*first), rest));
    let stream = stream(bytes, Direction::ToTerminal);
    let mut terminal = Terminal::new(7, [0; 512], [0; 4_096]);
    if with_key == 1 {
        terminal = terminal.with_key(line_key());
    }
    let request =
        RequestRef { id: Some("a"), sequence: Some("ACGT"), mutation: Some("A1C"), ..Default::default() };
    terminal.ask(&request, Patience::default(), 0).expect("it fits");
    let (mut now, mut out) = (0, [0; MAX_FRAME]);
    let mut said = 0_u64;
    let mut parts = stream.chunks(portion);
    loop {
        let part = parts.next();
        terminal.receive(part.unwrap_or_default(), now);
        while let Some(frame) = terminal.transmit(now, &mut out) {
            assert_eq!(frame.last(), Some(&0));
            said += 1;
            assert!(said < 10_000, "a terminal that never falls silent");
        }
        let event = terminal.poll(now).is_some();
        match terminal.wake_ms() {
            None => {
                assert!(event, "it ends with an outcome");
                break;
            }
            // What is due is due now; else time goes on once nothing more comes.
            Some(at) if part.is_none() => now = at.max(now + 1),
            Some(_) => now += 5,
        }
        assert!(now < 86_400_000, "an exchange that never ends");
    }
    terminal.forget();
    assert_eq!(terminal.wake_ms(), None);
}
