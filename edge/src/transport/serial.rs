//! Serial lines: COBS frames of the `wire` module, messages as postcard.

mod guard;

use std::{path::PathBuf, sync::Arc, time::Duration};

use locus_firmware_config::{
    message::{Fault, FaultCode, Outcome, Request},
    wire::{
        Decoder, Direction, Frame, FrameType, Key, MAX_FRAME, MAX_MESSAGE, Reassembler, WireError, encode,
        fragments,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::sleep,
};
use tokio_serial::{SerialPortBuilderExt, SerialStream};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize as _;

use crate::{config::Serial, pipeline::Pipeline};

pub use guard::read_key;
use guard::{Guard, Passed};

/// Requests of one line in work at once.
const TASKS: usize = 8;

/// Serves one line until `stop`, through every loss of the device; `key` is the line's, where it has one.
pub async fn run(pipeline: Pipeline, line: Serial, key: Option<Key>, stop: CancellationToken) {
    let mut told = false;
    let reopen = Duration::from_millis(line.reopen_ms.into());
    loop {
        match open(&line.path, line.baud) {
            Ok(port) => {
                tracing::info!(path = %line.path.display(), terminal = line.terminal, "serial line open");
                told = false;
                tokio::select! {
                    () = stop.cancelled() => return,
                    reason = serve(&pipeline, &line.terminal, key.clone(), port) => {
                        tracing::warn!(path = %line.path.display(), %reason, "serial line lost");
                    }
                }
            }
            Err(error) if !told => {
                told = true;
                tracing::warn!(path = %line.path.display(), %error, "serial line cannot be opened; trying on");
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

/// The frames of a message, ready for the line.
///
/// # Errors
/// A message that is too long.
pub fn frames(kind: FrameType, session: u32, seq: u16, message: &[u8]) -> Result<Vec<u8>, WireError> {
    sealed(None, kind, session, seq, message)
}

/// As [`frames`], as the box sends them on a line with a key.
fn sealed(
    key: Option<&Key>,
    kind: FrameType,
    session: u32,
    seq: u16,
    message: &[u8],
) -> Result<Vec<u8>, WireError> {
    let mut bytes = Vec::with_capacity(message.len() + message.len() / 8 + MAX_FRAME);
    let mut out = [0; MAX_FRAME];
    for frame in fragments(kind, session, seq, message)? {
        let frame = key.map_or(frame, |key| key.seal(&frame, Direction::ToTerminal));
        let n = encode(&frame, &mut out)?;
        bytes.extend_from_slice(&out[..n]);
    }
    Ok(bytes)
}

async fn serve(pipeline: &Pipeline, terminal: &str, key: Option<Key>, port: SerialStream) -> String {
    let (mut reader, mut writer) = tokio::io::split(port);
    let (replies, mut outgoing) = mpsc::channel::<Vec<u8>>(TASKS * 2);
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut line = Line {
        pipeline,
        terminal,
        replies,
        guard: Guard::new(key),
        room: Arc::new(Semaphore::new(TASKS)),
        tasks: JoinSet::new(),
        reassembler: Reassembler::new(&mut buffer),
    };
    let mut decoder = Decoder::new();
    let mut bytes = zeroize::Zeroizing::new([0; 4_096]);
    loop {
        tokio::select! {
            // A peer that is gone reads as nothing at all.
            read = reader.read(&mut bytes[..]) => match read {
                Ok(0) => return "the device is gone".into(),
                Ok(n) => {
                    decoder.push(&bytes[..n], |frame| line.take(frame));
                    bytes[..n].zeroize();
                }
                Err(error) => return error.to_string(),
            },
            Some(_) = line.tasks.join_next() => {}
            Some(reply) = outgoing.recv() => if let Err(error) = writer.write_all(&reply).await {
                return error.to_string();
            },
        }
    }
}

struct Line<'a> {
    pipeline: &'a Pipeline,
    terminal: &'a str,
    replies: mpsc::Sender<Vec<u8>>,
    guard: Guard,
    room: Arc<Semaphore>,
    /// They end with the line: who asked over it is gone, and asks again.
    tasks: JoinSet<()>,
    reassembler: Reassembler<&'a mut Vec<u8>>,
}

impl Line<'_> {
    fn take(&mut self, frame: Result<Frame<'_>, WireError>) {
        let frame = match frame {
            Ok(frame) => frame,
            // Nothing in it can be trusted, the sender's number least of all: the terminal asks again.
            Err(error) => return broken(&error),
        };
        let (session, seq) = (frame.session, frame.seq);
        match frame.kind {
            FrameType::Hello => match self.guard.greeted(&frame) {
                Ok(challenge) => {
                    let version = env!("CARGO_PKG_VERSION").as_bytes();
                    let message = [challenge.as_ref().map_or(&[][..], |c| c), version].concat();
                    self.send(self.guard.line(), FrameType::Hello, session, seq, &message);
                }
                Err(_) => self.reject(session, seq),
            },
            FrameType::Request => {
                match self.guard.check(&frame) {
                    Passed::Yes => {}
                    Passed::Again => return self.reply(FrameType::Ack, session, seq),
                    Passed::Rejected => return self.reject(session, seq),
                }
                let request = match self.reassembler.push(&frame) {
                    Ok(Some(message)) => {
                        let request = Request::from_postcard(message);
                        self.reassembler.wipe();
                        request
                    }
                    Ok(None) => return,
                    Err(error) => {
                        broken(&error);
                        return self.reply(FrameType::Nack, session, seq);
                    }
                };
                self.guard.took(session, seq);
                self.reply(FrameType::Ack, session, seq);
                self.ask(session, seq, request);
            }
            _ => {}
        }
    }

    fn ask(&mut self, session: u32, seq: u16, request: Result<Request, Fault>) {
        let key = self.guard.key(session);
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            let id = request.ok().and_then(|r| r.id);
            let fault = Fault {
                retry_after_ms: Some(100),
                ..Fault::new(
                    FaultCode::Busy,
                    format!("got more than {TASKS} requests at once on one line; ask again"),
                )
            };
            if let Some(bytes) = outcome_frames(key.as_ref(), session, seq, &Outcome::Fault(fault.for_id(id)))
            {
                let _ = self.replies.try_send(bytes);
            }
            return;
        };
        let (pipeline, terminal, replies) =
            (self.pipeline.clone(), self.terminal.to_owned(), self.replies.clone());
        self.tasks.spawn(async move {
            let outcome = pipeline.ask(&terminal, "serial", request).await;
            if let Some(bytes) = outcome_frames(key.as_ref(), session, seq, &outcome) {
                // The line may be gone: the terminal asks again with the same id.
                let _ = replies.send(bytes).await;
            }
            drop(permit);
        });
    }

    /// Without a message, under the session's key.
    fn reply(&self, kind: FrameType, session: u32, seq: u16) {
        self.send(self.guard.key(session).as_ref(), kind, session, seq, &[]);
    }

    /// Under the line's own key: there is no session's that both know.
    fn reject(&self, session: u32, seq: u16) {
        self.send(self.guard.line(), FrameType::Reject, session, seq, &[]);
    }

    fn send(&self, key: Option<&Key>, kind: FrameType, session: u32, seq: u16, message: &[u8]) {
        if let Ok(bytes) = sealed(key, kind, session, seq, message) {
            let _ = self.replies.try_send(bytes);
        }
    }
}

fn broken(error: &WireError) {
    metrics::counter!("locus_serial_broken_frames_total").increment(1);
    tracing::debug!(%error, "a broken frame");
}

fn outcome_frames(key: Option<&Key>, session: u32, seq: u16, outcome: &Outcome) -> Option<Vec<u8>> {
    let (kind, message) = match outcome {
        Outcome::Answer(answer) => (FrameType::Answer, postcard::to_stdvec(answer)),
        Outcome::Fault(fault) => (FrameType::Fault, postcard::to_stdvec(fault)),
    };
    match (sealed(key, kind, session, seq, &message.ok()?), outcome) {
        (Ok(bytes), _) => Some(bytes),
        // The terminal waits: it is told that there is nothing to wait for.
        (Err(error), Outcome::Answer(answer)) => {
            let message = format!(
                "got an answer that does not fit a message of this line: {error}; it is in the journal, ask over another transport"
            );
            let fault = Fault::new(FaultCode::TooLarge, message).for_id(answer.id.clone());
            sealed(key, FrameType::Fault, session, seq, &postcard::to_stdvec(&fault).ok()?).ok()
        }
        (Err(_), Outcome::Fault(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_does_not_fit_is_a_fault() {
        let Outcome::Answer(mut answer) = crate::pipeline::tests::an_answer() else { panic!("no answer") };
        answer.id = Some("a".into());
        for (warning, expected) in [(10, FrameType::Answer), (MAX_MESSAGE, FrameType::Fault)] {
            answer.warnings = vec!["x".repeat(warning)];
            let bytes = outcome_frames(None, 7, 3, &Outcome::Answer(answer.clone())).unwrap();
            let mut buffer = vec![0; MAX_MESSAGE];
            let mut reassembler = Reassembler::new(&mut buffer);
            let mut got = None;
            Decoder::new().push(&bytes, |frame| {
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
    }
}
