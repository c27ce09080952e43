//! Frames from one rank to the next over TCP: kind, length, payload; with a heartbeat, so that silence means that
//! the other one is gone.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

/// Time between heartbeats.
const BEAT: Duration = Duration::from_secs(4);
/// Longest silence of a rank that lives.
const SILENCE: Duration = Duration::from_secs(20);
/// Longest message that is not numbers.
const MESSAGE: usize = 4_096;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Beat = 0,
    Message = 1,
    Numbers = 2,
    Abort = 3,
}

/// What came instead of what was expected.
pub(super) enum Broken {
    /// The connection, or what came over it.
    Io(io::Error),
    /// A rank stopped and said why.
    Aborted { rank: u32, why: String },
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

fn write_frame(mut stream: &TcpStream, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| invalid("over 4 GiB in one exchange".into()))?;
    let mut head = [kind as u8; 5];
    head[1..].copy_from_slice(&length.to_le_bytes());
    stream.write_all(&head)?;
    stream.write_all(payload)
}

/// The sending end.
pub(super) struct Sender {
    stream: Arc<Mutex<TcpStream>>,
    /// The same connection, to end it while somebody writes.
    raw: TcpStream,
    /// Its end is the end of the heartbeat.
    _beat: Option<mpsc::Sender<()>>,
}

impl Sender {
    /// Without heartbeat yet.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let raw = stream.try_clone()?;
        Ok(Self { stream: Arc::new(Mutex::new(stream)), raw, _beat: None })
    }

    /// Begins to say regularly that this rank lives.
    pub(super) fn beating(mut self) -> Self {
        let (beat, ended) = mpsc::channel::<()>();
        let stream = self.stream.clone();
        thread::spawn(move || {
            while ended.recv_timeout(BEAT) == Err(mpsc::RecvTimeoutError::Timeout) {
                let stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
                // A broken connection shows when this rank next sends.
                if write_frame(&stream, Kind::Beat, &[]).is_err() {
                    return;
                }
            }
        });
        self._beat = Some(beat);
        self
    }

    /// Ends the connection, so that a write that waits for a rank that does not read comes back.
    pub(super) fn end(&self) {
        // It may have ended by itself.
        let _ = self.raw.shutdown(Shutdown::Both);
    }

    fn frame(&self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        write_frame(&self.stream.lock().unwrap_or_else(PoisonError::into_inner), kind, payload)
    }

    pub(super) fn message(&self, value: &impl Serialize) -> io::Result<()> {
        self.frame(Kind::Message, &serde_json::to_vec(value)?)
    }

    pub(super) fn numbers(&self, values: &[f32]) -> io::Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.frame(Kind::Numbers, &bytes)
    }

    pub(super) fn abort(&self, rank: u32, why: &str) -> io::Result<()> {
        let cut = why.floor_char_boundary(MESSAGE - 4);
        self.frame(Kind::Abort, &[&rank.to_le_bytes(), &why.as_bytes()[..cut]].concat())
    }
}

/// The receiving end.
pub(super) struct Receiver(TcpStream);

impl Receiver {
    /// Waits for `silence` at most for each piece.
    pub(super) fn new(stream: TcpStream, silence: Option<Duration>) -> io::Result<Self> {
        stream.set_read_timeout(Some(silence.unwrap_or(SILENCE)))?;
        Ok(Self(stream))
    }

    fn exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact(buffer).map_err(|e| match e.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                io::Error::new(ErrorKind::TimedOut, "it was silent for too long")
            }
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => io::Error::new(
                ErrorKind::UnexpectedEof,
                "it closed the connection, as a process does that ends",
            ),
            _ => e,
        })
    }

    /// The length of the next frame, which must be of this kind.
    fn next(&mut self, expected: Kind) -> Result<usize, Broken> {
        loop {
            let mut head = [0; 5];
            self.exact(&mut head)?;
            let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
            match head[0] {
                k if k == expected as u8 => return Ok(length),
                k if k == Kind::Beat as u8 && length == 0 => {}
                k if k == Kind::Abort as u8 && (4..=MESSAGE).contains(&length) => {
                    let mut rank = [0; 4];
                    self.exact(&mut rank)?;
                    let mut why = vec![0; length - 4];
                    self.exact(&mut why)?;
                    let (rank, why) = (u32::from_le_bytes(rank), String::from_utf8_lossy(&why).into_owned());
                    return Err(Broken::Aborted { rank, why });
                }
                k => {
                    return Err(
                        invalid(format!("got a frame of kind {k}, expected {}", expected as u8)).into()
                    );
                }
            }
        }
    }

    pub(super) fn message<T: DeserializeOwned>(&mut self) -> Result<T, Broken> {
        let length = self.next(Kind::Message)?;
        if length > MESSAGE {
            return Err(
                invalid(format!("got a message of {length} bytes, expected {MESSAGE} at most")).into()
            );
        }
        let mut bytes = vec![0; length];
        self.exact(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes).map_err(io::Error::from)?)
    }

    /// Exactly as many numbers as `values` has.
    pub(super) fn numbers(&mut self, values: &mut [f32]) -> Result<(), Broken> {
        let length = self.next(Kind::Numbers)?;
        if length != 4 * values.len() {
            let text =
                format!("got {} numbers, expected {}, as this rank's model has", length / 4, values.len());
            return Err(invalid(text).into());
        }
        let mut bytes = vec![0; length];
        self.exact(&mut bytes)?;
        for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(4)) {
            *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Ok(())
    }
}
