//! A terminal on a serial line: the microcontroller's, with a port and a clock.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use locus_firmware_config::{
    message::{Outcome, Request},
    terminal::{Event, Patience, RequestRef, Terminal},
    wire::{Key, MAX_FRAME, MAX_MESSAGE},
};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout_at,
};
use tokio_serial::SerialStream;

use super::ClientError;
use crate::{keys::random, transport::serial::open};

/// An open line; its session number is random, so that a restart is never taken for a repeat.
#[derive(Debug)]
pub struct SerialTerminal {
    port: SerialStream,
    terminal: Terminal<Vec<u8>, Vec<u8>>,
    opened: Instant,
}

impl SerialTerminal {
    /// Opens a line.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn open(path: &Path, baud: u32) -> Result<Self, ClientError> {
        Self::open_with(path, baud, None)
    }

    /// As [`SerialTerminal::open`], on a line with a key.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn open_with(path: &Path, baud: u32, key: Option<Key>) -> Result<Self, ClientError> {
        let failed = |error: std::io::Error| ClientError::Connect {
            to: path.display().to_string(),
            reason: error.to_string(),
        };
        Self::on(open(path, baud).map_err(failed)?, key)
    }

    /// Takes a port that is open.
    ///
    /// # Errors
    /// [`ClientError::Broken`]: the machine gives no random numbers.
    pub fn on(port: SerialStream, key: Option<Key>) -> Result<Self, ClientError> {
        let session = random::<4>().map_err(|error| ClientError::Broken(error.to_string()))?;
        let (request, answer) = (vec![0; MAX_MESSAGE], vec![0; MAX_MESSAGE]);
        let terminal = Terminal::new(u32::from_le_bytes(*session), request, answer);
        let terminal = if let Some(key) = key { terminal.with_key(key) } else { terminal };
        Ok(Self { port, terminal, opened: Instant::now() })
    }

    /// Asks, again where the line lost something, and waits. That the box is busy is an outcome here: who asks knows
    /// better whether to wait.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask(&mut self, request: &Request, timeout: Duration) -> Result<Outcome, ClientError> {
        let give_up_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let patience = Patience { give_up_ms, ..Patience::default() };
        let begun = self.terminal.ask(&RequestRef::from(request), patience, self.now_ms());
        begun.map_err(|error| ClientError::Broken(error.to_string()))?;
        let outcome = self.exchange(timeout).await;
        self.terminal.forget();
        outcome
    }

    async fn exchange(&mut self, timeout: Duration) -> Result<Outcome, ClientError> {
        let gone = |error: std::io::Error| ClientError::Broken(error.to_string());
        let until = tokio::time::Instant::now() + timeout;
        let (mut frame, mut input) = ([0; MAX_FRAME], [0; 4_096]);
        loop {
            while let Some(bytes) = self.terminal.transmit(self.now_ms(), &mut frame) {
                let written = timeout_at(until, self.port.write_all(bytes)).await;
                written.map_err(|_| ClientError::Timeout(timeout))?.map_err(gone)?;
            }
            let now_ms = self.now_ms();
            if let Some(event) = self.terminal.poll(now_ms) {
                return outcome_of(event, timeout);
            }
            let wake_ms = self.terminal.wake_ms().unwrap_or(now_ms);
            let wake = tokio::time::Instant::now() + Duration::from_millis(wake_ms.saturating_sub(now_ms));
            match timeout_at(wake, self.port.read(&mut input)).await {
                Err(_) => {}
                Ok(Ok(0)) => return Err(ClientError::Broken("the line is gone".into())),
                Ok(Ok(n)) => self.terminal.receive(&input[..n], self.now_ms()),
                Ok(Err(error)) => return Err(gone(error)),
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn outcome_of(event: Event<'_>, timeout: Duration) -> Result<Outcome, ClientError> {
    match event {
        Event::Answer { bytes, .. } => read(bytes).map(|answer| Outcome::Answer(Box::new(answer))),
        Event::Fault { bytes, .. } | Event::Busy { bytes, .. } => read(bytes).map(Outcome::Fault),
        Event::Rejected => Err(ClientError::Rejected),
        Event::TimedOut => Err(ClientError::Timeout(timeout)),
        Event::Unreadable { bytes } => {
            Err(unread(bytes.len(), "it is neither answer nor fault of this version"))
        }
        Event::NoRoom { got } => Err(unread(got, "it is longer than any message")),
        _ => Err(unread(0, "it is of a kind that this terminal does not know")),
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ClientError> {
    postcard::from_bytes(bytes).map_err(|error| unread(bytes.len(), &error.to_string()))
}

fn unread(got: usize, reason: &str) -> ClientError {
    ClientError::NoOutcome { got, reason: reason.to_owned() }
}
