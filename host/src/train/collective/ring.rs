//! Ring all-reduce over TCP (Patarasu & Yuan 2009): each rank sends to the next one and hears the one before it.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    Collective,
    link::{Broken, Receiver, Sender},
};
use crate::{Error, Result, train::Ranks};

/// Time for all ranks to come together.
const JOIN: Duration = Duration::from_secs(120);
/// Time for one that connected to say who it is.
const HELLO: Duration = Duration::from_secs(5);
/// Time for what is being sent to end, where nothing more comes in.
const PARTING: Duration = Duration::from_secs(1);
/// Version of the exchange.
const VERSION: u32 = 1;

/// Ranks in a ring.
pub struct Ring {
    rank: usize,
    world: usize,
    next: Sender,
    previous: Receiver,
}

/// What a rank says to the first one.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    version: u32,
    rank: usize,
    world: usize,
    /// Of recipe, data, step and parameters.
    digest: String,
    /// Where it listens for the rank before it.
    port: u16,
}

/// What it is answered.
#[derive(Serialize, Deserialize)]
enum Welcome {
    /// The rank after it, and what to say there.
    Join { next: SocketAddr, token: u64 },
    /// Why it may not take part.
    Refused { why: String },
}

fn peer(rank: usize, what: impl ToString) -> Error {
    Error::Peer { rank, what: what.to_string() }
}

fn broken(from: usize) -> impl Fn(Broken) -> Error {
    move |broken| match broken {
        Broken::Io(error) => peer(from, error),
        Broken::Aborted { rank, why } => Error::Peer { rank: rank as usize, what: why },
    }
}

impl Ring {
    /// Waits until all ranks are there. `digest` says what is trained, from where: a rank with another one is
    /// refused.
    ///
    /// # Errors
    /// [`Error::Peer`]: ranks that do not come, or that do not belong here.
    pub fn join(ranks: &Ranks, digest: &str) -> Result<Self> {
        let Some((host, port)) = &ranks.address else {
            return Err(Error::Ranks {
                got: "one rank".into(),
                expected: "several, and where they meet".into(),
            });
        };
        let unknown = |e: io::Error| Error::Ranks {
            got: format!("{host}:{port} ({e})"),
            expected: "MASTER_ADDR and MASTER_PORT, where rank 0 can listen and the others reach it".into(),
        };
        let addresses: Vec<SocketAddr> = (host.as_str(), *port).to_socket_addrs().map_err(unknown)?.collect();
        let until = Instant::now() + JOIN;
        let (listener, (to, token)) = if ranks.is_first() {
            let listener = TcpListener::bind(&addresses[..]).map_err(unknown)?;
            let joined = gather(&listener, ranks.world, digest, until)?;
            (listener, joined)
        } else {
            enter(ranks, &addresses, digest, until)?
        };
        let next = Sender::new(TcpStream::connect(to).map_err(|e| peer((ranks.rank + 1) % ranks.world, e))?)
            .and_then(|sender| sender.message(&(token, ranks.rank)).map(|()| sender))
            .map_err(|e| peer((ranks.rank + 1) % ranks.world, e))?;
        let before = (ranks.rank + ranks.world - 1) % ranks.world;
        let previous = loop {
            let stream = accept(&listener, until).map_err(|e| peer(before, e))?;
            let mut hello = Receiver::new(stream.try_clone().map_err(|e| peer(before, e))?, Some(HELLO))
                .map_err(|e| peer(before, e))?;
            if matches!(hello.message::<(u64, usize)>(), Ok(said) if said == (token, before)) {
                break Receiver::new(stream, None).map_err(|e| peer(before, e))?;
            }
        };
        Ok(Self { rank: ranks.rank, world: ranks.world, next: next.beating(), previous })
    }

    fn before(&self) -> usize {
        (self.rank + self.world - 1) % self.world
    }

    fn after(&self) -> usize {
        (self.rank + 1) % self.world
    }

    /// Sends one part while another one comes in.
    fn exchange(&mut self, send: &[f32], receive: &mut [f32]) -> Result<()> {
        let (before, after) = (self.before(), self.after());
        let (next, previous) = (&self.next, &mut self.previous);
        let (sent, received) = thread::scope(|scope| {
            let sending = scope.spawn(|| next.numbers(send));
            let received = previous.numbers(receive);
            if received.is_err() {
                let until = Instant::now() + PARTING;
                while !sending.is_finished() && Instant::now() < until {
                    thread::sleep(Duration::from_millis(10));
                }
                if !sending.is_finished() {
                    next.end();
                }
            }
            (sending.join(), received)
        });
        // What a rank said on its way out explains more than a connection that cannot be written to.
        received.map_err(broken(before))?;
        match sent {
            Ok(sent) => sent.map_err(|e| peer(after, e)),
            Err(_) => Err(peer(after, "the sending thread ended")),
        }
    }
}

impl Collective for Ring {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<()> {
        let (n, world) = (values.len(), self.world);
        let part = |number: usize| {
            let number = number % world;
            n * number / world..n * (number + 1) / world
        };
        let mut incoming = vec![0.0; n.div_ceil(world)];
        // Part p starts at rank p and is whole after world - 1 steps; then whole parts go round once more.
        for step in 0..2 * (world - 1) {
            let summing = step < world - 1;
            let from = self.rank + 2 * world - step;
            let (send, receive) = (part(from), part(from - 1));
            let incoming = &mut incoming[..receive.len()];
            self.exchange(&values[send], incoming)?;
            for (value, more) in values[receive].iter_mut().zip(incoming) {
                *value = if summing { *more + *value } else { *more };
            }
        }
        Ok(())
    }

    fn share_first(&mut self, value: bool) -> Result<bool> {
        let value =
            if self.rank == 0 { value } else { self.previous.message().map_err(broken(self.before()))? };
        if self.after() != 0 {
            self.next.message(&value).map_err(|e| peer(self.after(), e))?;
        }
        Ok(value)
    }

    fn abort(&mut self, why: &Error) {
        // Whoever cannot be told sees the connection end.
        let _ = match why {
            Error::Peer { rank, what } => self.next.abort(*rank as u32, what),
            other => self.next.abort(self.rank as u32, &other.to_string()),
        };
    }
}

/// The first rank: waits for all others; gives where the next one listens, and the ring's token.
fn gather(listener: &TcpListener, world: usize, digest: &str, until: Instant) -> Result<(SocketAddr, u64)> {
    let token = rand::random::<u64>();
    let mut joined: Vec<Option<(Sender, SocketAddr)>> = (1..world).map(|_| None).collect();
    let mut refused = Vec::new();
    while joined.iter().any(Option::is_none) {
        let stream = accept(listener, until).map_err(|_| {
            let missing: Vec<String> =
                (1..world).filter(|r| joined[r - 1].is_none()).map(|r| r.to_string()).collect();
            peer(
                joined.iter().position(Option::is_none).map_or(0, |i| i + 1),
                format!(
                    "rank {} of {world} did not come in {} s {}",
                    missing.join(", "),
                    JOIN.as_secs(),
                    refused.join("; ")
                ),
            )
        })?;
        // One that is no rank, or goes away again, is none of our business.
        let Ok(from) = stream.peer_addr() else { continue };
        let Ok(sender) = stream.try_clone().and_then(Sender::new) else { continue };
        let Ok(hello) =
            Receiver::new(stream, Some(HELLO)).map_err(Broken::from).and_then(|mut r| r.message::<Hello>())
        else {
            continue;
        };
        let why = if hello.version != VERSION {
            Some(format!("it speaks version {}, rank 0 speaks {VERSION}", hello.version))
        } else if hello.world != world {
            Some(format!("it is one of {} ranks, rank 0 is one of {world}", hello.world))
        } else if hello.rank == 0 || hello.rank >= world || joined[hello.rank - 1].is_some() {
            Some(format!("got another rank {}, expected each from 1 to {} once", hello.rank, world - 1))
        } else if hello.digest != digest {
            Some("its recipe, data, checkpoint or model is another one than that of rank 0".to_owned())
        } else {
            None
        };
        match why {
            None => joined[hello.rank - 1] = Some((sender, SocketAddr::new(from.ip(), hello.port))),
            Some(why) => {
                complain!("ranks: rank {} at {from} was refused: {why}", hello.rank);
                let _ = sender.message(&Welcome::Refused { why: why.clone() });
                refused.push(format!("(refused rank {}: {why})", hello.rank));
            }
        }
    }
    let joined: Vec<(Sender, SocketAddr)> = joined.into_iter().flatten().collect();
    let first = listener.local_addr().map_err(|e| peer(0, e))?;
    for (i, (sender, _)) in joined.iter().enumerate() {
        let next = joined.get(i + 1).map_or(first, |(_, address)| *address);
        sender.message(&Welcome::Join { next, token }).map_err(|e| peer(i + 1, e))?;
    }
    Ok((joined[0].1, token))
}

/// Any other rank: asks the first one; gives its own listener, where the next one listens, and the ring's token.
fn enter(
    ranks: &Ranks,
    first: &[SocketAddr],
    digest: &str,
    until: Instant,
) -> Result<(TcpListener, (SocketAddr, u64))> {
    let stream = loop {
        match TcpStream::connect(first) {
            Ok(stream) => break stream,
            Err(_) if Instant::now() < until => thread::sleep(Duration::from_millis(100)),
            Err(e) => return Err(peer(0, e)),
        }
    };
    let io = |e: io::Error| peer(0, e);
    // By the address that leads to the first rank the others are reached too.
    let listener = TcpListener::bind((stream.local_addr().map_err(io)?.ip(), 0)).map_err(io)?;
    let port = listener.local_addr().map_err(io)?.port();
    let hello =
        Hello { version: VERSION, rank: ranks.rank, world: ranks.world, digest: digest.to_owned(), port };
    Sender::new(stream.try_clone().map_err(io)?).and_then(|s| s.message(&hello)).map_err(io)?;
    let left = until.saturating_duration_since(Instant::now()).max(HELLO);
    match Receiver::new(stream, Some(left)).map_err(io)?.message().map_err(broken(0))? {
        Welcome::Join { next, token } => Ok((listener, (next, token))),
        Welcome::Refused { why } => Err(peer(0, format!("it refused rank {}: {why}", ranks.rank))),
    }
}

/// The next connection, until a time.
fn accept(listener: &TcpListener, until: Instant) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < until => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                return Err(io::Error::new(ErrorKind::TimedOut, "nobody came"));
            }
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(rank: usize, world: usize, port: u16) -> Ranks {
        Ranks { rank, world, address: Some(("127.0.0.1".into(), port)) }
    }

    /// A port that was free a moment ago.
    fn port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn on_every_rank<T: Send>(world: usize, run: impl Fn(Ring) -> T + Sync) -> Vec<T> {
        let (port, run) = (port(), &run);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..world)
                .map(|r| scope.spawn(move || run(Ring::join(&rank(r, world, port), "same").unwrap())))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        })
    }

    #[test]
    fn every_rank_gets_the_same_sums() {
        for (world, n) in [(2, 1), (2, 7), (3, 10), (4, 3), (3, 100_000)] {
            let value = |rank: usize, i: usize| ((rank * 31 + i * 7) % 13) as f32 - 6.0;
            let all = on_every_rank(world, |mut ring| {
                let mut values: Vec<f32> = (0..n).map(|i| value(ring.rank(), i)).collect();
                ring.all_reduce(&mut values).unwrap();
                let told = ring.share_first(ring.rank() == 0).unwrap();
                (values, told)
            });
            let expected: Vec<f32> = (0..n).map(|i| (0..world).map(|r| value(r, i)).sum()).collect();
            assert!(all.iter().all(|(v, told)| *v == expected && *told), "{world} ranks, {n} values");
        }
    }

    #[test]
    fn a_rank_that_stops_tells_the_others_why() {
        let errors = on_every_rank(3, |mut ring| {
            if ring.rank() == 1 {
                ring.abort(&Error::Peer { rank: 1, what: "out of luck".into() });
                return String::new();
            }
            let error = ring.all_reduce(&mut [1.0; 30]).unwrap_err();
            ring.abort(&error);
            error.to_string()
        });
        assert!(errors[2].contains("rank 1: out of luck"), "{errors:?}");
        assert!(errors[0].contains("rank 1") || errors[0].contains("rank 2"), "{errors:?}");
    }

    #[test]
    fn another_model_or_number_of_ranks_is_refused_by_name() {
        let port = port();
        // Ends with the test: it waits for a rank that never comes.
        thread::spawn(move || Ring::join(&rank(0, 2, port), "one"));
        for (other, digest, word) in [
            (rank(1, 2, port), "two", "recipe"),
            (rank(1, 3, port), "one", "ranks"),
            (rank(2, 3, port), "one", "ranks"),
        ] {
            let error = Ring::join(&other, digest).err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn ranks_of_another_length_are_told_so() {
        let errors = on_every_rank(2, |mut ring| {
            let mut values = vec![0.0; 10 + 10 * ring.rank()];
            ring.all_reduce(&mut values).unwrap_err().to_string()
        });
        assert!(errors.iter().any(|e| e.contains("numbers, expected")), "{errors:?}");
    }
}
