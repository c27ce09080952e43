//! A terminal on a serial line.

use std::{path::Path, time::Duration};

use locus_firmware_config::{
    message::{Outcome, Request},
    wire::{Decoder, FrameType, MAX_MESSAGE, Reassembler},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout_at,
};
use tokio_serial::SerialStream;

use super::ClientError;
use crate::{
    keys::random,
    transport::serial::{frames, open},
};

/// An open line; its session number is random, so that a restart is never taken for a repeat.
#[derive(Debug)]
pub struct SerialTerminal {
    port: SerialStream,
    session: u32,
    seq: u16,
}

impl SerialTerminal {
    /// Opens a line.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn open(path: &Path, baud: u32) -> Result<Self, ClientError> {
        let failed = |reason: String| ClientError::Connect { to: path.display().to_string(), reason };
        let session = random::<4>().map_err(|error| failed(error.to_string()))?;
        let port = open(path, baud).map_err(|error| failed(error.to_string()))?;
        Ok(Self { port, session: u32::from_le_bytes(*session), seq: 0 })
    }

    /// Asks and waits.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask(&mut self, request: &Request, timeout: Duration) -> Result<Outcome, ClientError> {
        let broken = |reason: String| ClientError::Broken(reason);
        let message = postcard::to_stdvec(request).map_err(|error| broken(error.to_string()))?;
        let seq = self.next();
        let bytes = frames(FrameType::Request, self.session, seq, &message)
            .map_err(|error| broken(error.to_string()))?;
        self.exchange(&bytes, seq, timeout).await
    }

    fn next(&mut self) -> u16 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    async fn exchange(&mut self, bytes: &[u8], seq: u16, timeout: Duration) -> Result<Outcome, ClientError> {
        let broken = |error: std::io::Error| ClientError::Broken(error.to_string());
        let until = tokio::time::Instant::now() + timeout;
        timeout_at(until, self.port.write_all(bytes))
            .await
            .map_err(|_| ClientError::Timeout(timeout))?
            .map_err(broken)?;
        let (mut decoder, mut buffer, mut input) = (Decoder::new(), vec![0; MAX_MESSAGE], [0; 4_096]);
        let mut reassembler = Reassembler::new(&mut buffer);
        loop {
            let read = timeout_at(until, self.port.read(&mut input)).await;
            let n = read.map_err(|_| ClientError::Timeout(timeout))?.map_err(broken)?;
            if n == 0 {
                return Err(ClientError::Broken("the line is gone".into()));
            }
            let (mut outcome, session) = (None, self.session);
            decoder.push(&input[..n], |frame| {
                let Ok(frame) = frame else { return };
                if frame.session != session || frame.seq != seq {
                    return;
                }
                if frame.kind == FrameType::Nack {
                    outcome = Some(Err(ClientError::Broken("the box did not get the whole request".into())));
                } else if matches!(frame.kind, FrameType::Answer | FrameType::Fault)
                    && let Ok(Some(message)) = reassembler.push(&frame)
                {
                    outcome = Some(read_outcome(frame.kind, message));
                }
            });
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
    }
}

fn read_outcome(kind: FrameType, message: &[u8]) -> Result<Outcome, ClientError> {
    let wrong =
        |error: postcard::Error| ClientError::NoOutcome { got: message.len(), reason: error.to_string() };
    if kind == FrameType::Answer {
        return postcard::from_bytes(message).map(|answer| Outcome::Answer(Box::new(answer))).map_err(wrong);
    }
    postcard::from_bytes(message).map(Outcome::Fault).map_err(wrong)
}
