//! Serial lines: COBS frames of the `wire` module, messages as postcard.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use locus_firmware_config::{
    line::{Heard, Line, Ticket},
    message::{Fault, FaultCode, Outcome, Request},
    wire::{FrameType, KEY_BYTES, Key, MAX_FRAME, MAX_MESSAGE, WireError, encode, fragments},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};
use tokio_serial::{SerialPortBuilderExt, SerialStream};
use tokio_util::sync::CancellationToken;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    config::Serial,
    keys::random,
    pipeline::Pipeline,
    vfs::{OsVfs, Vfs},
};

/// Requests of one line in work at once.
const TASKS: usize = 8;
/// Most bytes that wait for the line; a terminal that sends and never reads gets no more.
const MAX_WAITING_BYTES: usize = 16 * MAX_MESSAGE;
/// Largest key file, in bytes: hexadecimal digits and a line break.
const MAX_KEY_FILE: u64 = 256;

/// Reads a line's key: 64 hexadecimal digits.
///
/// # Errors
/// The file cannot be read, or holds no key.
pub fn read_key(path: &Path) -> Result<Key, String> {
    let named = |reason: &str| format!("serial.key_file {}: {reason}", path.display());
    let text = OsVfs.read(path, MAX_KEY_FILE).map_err(|error| named(&error.to_string()))?;
    let text = Zeroizing::new(text);
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    hex::decode_to_slice(text.trim_ascii(), &mut *bytes)
        .map_err(|_| named("got no key, expected 64 hexadecimal digits; `locusctl line-key` makes one"))?;
    Ok(Key::new(*bytes))
}

/// Serves one line until `stop`, through every loss of the device; `key` is the line's, where it has one.
pub async fn run(pipeline: Pipeline, line: Serial, key: Option<Key>, stop: CancellationToken) {
    keep_open(&line, "serial", &stop, |port| Served::new(&pipeline, &line.terminal, key.clone()).run(port))
        .await;
}

/// Opens a line whenever its device is there and lets `serve` have it until that says why it is lost; returns at `stop`.
pub(super) async fn keep_open<S>(
    line: &Serial,
    kind: &'static str,
    stop: &CancellationToken,
    serve: impl Fn(SerialStream) -> S,
) where
    S: Future<Output = String>,
{
    let mut told = false;
    let reopen = Duration::from_millis(line.reopen_ms.into());
    loop {
        match open(&line.path, line.baud) {
            Ok(port) => {
                tracing::info!(path = %line.path.display(), terminal = line.terminal, kind, "line open");
                told = false;
                tokio::select! {
                    () = stop.cancelled() => return,
                    reason = serve(port) => {
                        metrics::counter!("locus_serial_lost_total").increment(1);
                        tracing::warn!(path = %line.path.display(), %reason, kind, "line lost");
                    }
                }
            }
            Err(error) if !told => {
                told = true;
                tracing::warn!(path = %line.path.display(), %error, kind, "line cannot be opened; trying on");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(reopen) => {}
        }
    }
}

/// Opens a line for this process alone.
///
/// # Errors
/// No such device, or it is taken.
pub fn open(path: &std::path::Path, baud: u32) -> std::io::Result<SerialStream> {
    // A pty and a by-id name are links; the port itself is what is locked.
    let path: PathBuf = path.canonicalize()?;
    tokio_serial::new(path.to_string_lossy(), baud).open_native_async().map_err(std::io::Error::from)
}

/// The frames of a message of a terminal, ready for a line without a key.
///
/// # Errors
/// A message that is too long.
pub fn frames(kind: FrameType, session: u32, seq: u16, message: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut bytes = Vec::with_capacity(message.len() + message.len() / 8 + MAX_FRAME);
    let mut out = [0; MAX_FRAME];
    for frame in fragments(kind, session, seq, message)? {
        let n = encode(&frame, &mut out)?;
        bytes.extend_from_slice(&out[..n]);
    }
    Ok(bytes)
}

/// A line that is open.
struct Served<'a> {
    pipeline: &'a Pipeline,
    terminal: &'a str,
    line: Line,
    /// Whether the line has a key.
    keyed: bool,
    room: Arc<Semaphore>,
    /// They end with the line: who asked over it is gone, and asks again.
    tasks: JoinSet<(Ticket, Arc<Outcome>)>,
    /// Bytes that wait for the line.
    out: Vec<u8>,
}

impl<'a> Served<'a> {
    fn new(pipeline: &'a Pipeline, terminal: &'a str, key: Option<Key>) -> Self {
        Self {
            pipeline,
            terminal,
            keyed: key.is_some(),
            line: Line::new(key, env!("CARGO_PKG_VERSION")),
            room: Arc::new(Semaphore::new(TASKS)),
            tasks: JoinSet::new(),
            out: Vec::new(),
        }
    }

    async fn run(mut self, port: SerialStream) -> String {
        let (mut reader, mut writer) = tokio::io::split(port);
        let mut bytes = Zeroizing::new([0; 4_096]);
        loop {
            tokio::select! {
                // A peer that is gone reads as nothing at all.
                read = reader.read(&mut bytes[..]) => match read {
                    Ok(0) => return "the device is gone".into(),
                    Ok(n) => {
                        self.receive(&bytes[..n]);
                        bytes[..n].zeroize();
                    }
                    Err(error) => return error.to_string(),
                },
                Some(done) = self.tasks.join_next() => if let Ok((ticket, outcome)) = done {
                    self.tell(ticket, &outcome);
                },
                written = writer.write(&self.out), if !self.out.is_empty() => match written {
                    Ok(0) => return "the device takes nothing any more".into(),
                    Ok(n) => {
                        self.out[..n].zeroize();
                        self.out.drain(..n);
                    }
                    Err(error) => return error.to_string(),
                },
            }
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        let (mut asked, mut replies, keyed) = (Vec::new(), Vec::new(), self.keyed);
        self.line.receive(bytes, &mut || random().ok().map(|drawn| *drawn), &mut replies, &mut |heard| {
            match heard {
                Heard::Request { ticket, message } => asked.push((ticket, Request::from_postcard(message))),
                // Nothing in it can be trusted, the sender's number least of all: the terminal asks again.
                Heard::Broken(error) => {
                    metrics::counter!("locus_serial_broken_frames_total").increment(1);
                    tracing::debug!(%error, "a broken frame");
                }
                Heard::Refused(reason) => refused(reason),
                Heard::Again if keyed => refused("replayed"),
                Heard::Again => metrics::counter!("locus_serial_repeated_frames_total").increment(1),
                _ => {}
            }
        });
        self.put(&replies);
        for (ticket, request) in asked {
            self.ask(ticket, request);
        }
    }

    fn ask(&mut self, ticket: Ticket, request: Result<Request, Fault>) {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            let id = request.ok().and_then(|r| r.id);
            let fault = Fault {
                retry_after_ms: Some(100),
                ..Fault::new(
                    FaultCode::Busy,
                    format!("got more than {TASKS} requests at once on one line; ask again"),
                )
            };
            return self.tell(ticket, &Outcome::Fault(fault.for_id(id)));
        };
        let (pipeline, terminal) = (self.pipeline.clone(), self.terminal.to_owned());
        self.tasks.spawn(async move {
            let outcome = pipeline.ask(&terminal, "serial", request).await;
            drop(permit);
            (ticket, outcome)
        });
    }

    fn tell(&mut self, ticket: Ticket, outcome: &Outcome) {
        let mut replies = Vec::new();
        let told =
            message_of(outcome).map(|(kind, message)| self.line.outcome(ticket, kind, message, &mut replies));
        // The terminal waits: it is told that there is nothing to wait for.
        if let (Some(Err(error)), Outcome::Answer(answer)) = (told, outcome) {
            let message = format!(
                "got an answer that does not fit a message of this line: {error}; it is in the journal, ask over another transport"
            );
            let fault = Fault::new(FaultCode::TooLarge, message).for_id(answer.id.clone());
            if let Some((kind, message)) = message_of(&Outcome::Fault(fault)) {
                let _ = self.line.outcome(ticket, kind, message, &mut replies);
            }
        }
        self.put(&replies);
    }

    fn put(&mut self, replies: &[u8]) {
        if self.out.len() + replies.len() <= MAX_WAITING_BYTES {
            self.out.extend_from_slice(replies);
        }
    }
}

/// Counts what is not taken.
fn refused(reason: &'static str) {
    metrics::counter!("locus_refused_total", "transport" => "serial", "reason" => reason).increment(1);
}

fn message_of(outcome: &Outcome) -> Option<(FrameType, Vec<u8>)> {
    Some(match outcome {
        Outcome::Answer(answer) => (FrameType::Answer, postcard::to_stdvec(answer).ok()?),
        Outcome::Fault(fault) => (FrameType::Fault, postcard::to_stdvec(fault).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use locus_firmware_config::wire::{Decoder, Reassembler};

    use super::*;
    use crate::{config::Limits, pipeline::tests::Box_};

    #[tokio::test(flavor = "multi_thread")]
    async fn an_answer_that_does_not_fit_is_a_fault() {
        let Outcome::Answer(mut answer) = crate::pipeline::tests::an_answer() else { panic!("no answer") };
        answer.id = Some("a".into());
        let made = Box_::of(Limits::default());
        for (warning, expected) in [(10, FrameType::Answer), (MAX_MESSAGE, FrameType::Fault)] {
            answer.warnings = vec!["x".repeat(warning)];
            let mut served = Served::new(&made.pipeline, "ward", None);
            let mut tickets = Vec::new();
            let asked = frames(FrameType::Request, 7, 3, b"x").unwrap();
            served.line.receive(&asked, &mut || None, &mut Vec::new(), &mut |heard| {
                if let Heard::Request { ticket, .. } = heard {
                    tickets.push(ticket);
                }
            });
            served.tell(tickets[0], &Outcome::Answer(answer.clone()));
            let mut buffer = vec![0; MAX_MESSAGE];
            let mut reassembler = Reassembler::new(&mut buffer);
            let mut got = None;
            Decoder::new().push(&served.out, |frame| {
                let frame = frame.unwrap();
                assert_eq!((frame.session, frame.seq, frame.kind), (7, 3, expected));
                if let Some(message) = reassembler.push(&frame).unwrap() {
                    got = Some(message.to_vec());
                }
            });
            let got = got.unwrap();
            if expected == FrameType::Fault {
                let fault: Fault = postcard::from_bytes(&got).unwrap();
                assert_eq!((fault.code, fault.id.as_deref()), (FaultCode::TooLarge, Some("a")));
            }
        }
        made.stop();
    }

    #[test]
    fn a_key_file_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("line.key");
        assert!(read_key(&path).unwrap_err().contains("line.key"));
        for text in ["", "abc", &"z".repeat(64), &"0".repeat(66)] {
            std::fs::write(&path, text).unwrap();
            let error = read_key(&path).unwrap_err();
            assert!(error.contains("line.key") && error.contains("64 hexadecimal"), "{error}");
        }
        std::fs::write(&path, format!("{}\n", "0a".repeat(32))).unwrap();
        assert!(read_key(&path).is_ok());
    }
}
