//! HL7 v2 over MLLP: a question as ORU^R01 is acknowledged once it is answered and kept; the answer follows on the same
//! connection as an ORU^R01 of the box's own, which the peer acknowledges. One message at a time.

mod frame;
mod order;
mod reply;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use locus_firmware_config::message::{Answer, Fault, Outcome, Request};
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use zeroize::{Zeroize as _, Zeroizing};

use self::{
    frame::{Block, Framer, Hopeless},
    order::{Head, Heard, Refusal},
};
use super::fields;
use crate::{
    access::{AuthorityError, Guest, Guests, Identity, chain, private_key},
    clock::{Clock, SystemClock},
    config::Mllp,
    pipeline::Pipeline,
};

/// Connections of one listener at once that have not shown who they are: the oldest makes room.
const STRANGERS: usize = 16;
/// Connections of one listener at once that have.
const PEERS: usize = 16;
/// Messages that are turned away while an answer waits to be acknowledged.
const MAX_OUT_OF_TURN: usize = 8;
/// Time that connections have to end.
const END: Duration = Duration::from_secs(2);

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer closed it.
    Closed,
    /// The daemon stops.
    Stopped,
    /// Nothing was said for long.
    Idle,
    /// The peer did something that is not waited for or read on.
    Refused(&'static str),
}

/// A listener that is bound.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    listener: TcpListener,
    served: Arc<Served>,
}

/// What all connections of a listener share.
struct Served {
    section: Mllp,
    box_name: String,
    /// What the files held when they were last read whole.
    tls: Mutex<Option<TlsAcceptor>>,
    clock: SystemClock,
    /// Control ids of acknowledgements.
    control: AtomicU64,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("section", &self.section).finish_non_exhaustive()
    }
}

/// Reads what a section says about TLS; `None` where it speaks none.
///
/// # Errors
/// A file cannot be read, or does not fit.
pub fn tls(section: &Mllp) -> Result<Option<Arc<ServerConfig>>, String> {
    let (Some(certificate), Some(key)) = (&section.certificate, &section.key) else { return Ok(None) };
    let named = |error: AuthorityError| format!("mllp: {error}");
    let secret = private_key(key).map_err(named)?;
    let provider = Arc::new(ring::default_provider());
    let unusable = |error: &dyn std::fmt::Display| format!("mllp: certificates cannot be used: {error}");
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    let builder = match &section.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in chain(path).map_err(named)? {
                roots.add(authority).map_err(|error| unusable(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(&error))?)
        }
    };
    let server = builder
        .with_single_cert(chain(certificate).map_err(named)?, secret)
        .map_err(|error| unusable(&error))?;
    Ok(Some(Arc::new(server)))
}

/// An answer as an ORU^R01 that answers no order, segments ended by `\r`. Observations are preliminary.
pub fn message(answer: &Answer, gene: Option<&str>, clock: &impl Clock) -> Vec<u8> {
    let control = control_of(answer).unwrap_or_else(|| "A0".to_owned());
    reply::answer(&Head::default(), answer, gene, &control, &now(clock))
}

/// Now, with its zone.
fn now(clock: &impl Clock) -> String {
    format!("{}+0000", fields::time(clock))
}

/// The control id of an answer that is kept: the same for one that is given again, so that who has it already sees that.
fn control_of(answer: &Answer) -> Option<String> {
    let receipt = answer.receipt.as_ref()?;
    Some(format!("{}{:X}", receipt.journal.get(..8).unwrap_or_default(), receipt.index))
}

/// What bytes of a connection ask, and what a box says that answers each question with `answer`, one after the other up
/// to where it would close: a connection without a network.
pub fn overhear(bytes: &[u8], answer: &Answer, heard: &mut dyn FnMut(Result<Request, Fault>, Vec<Vec<u8>>)) {
    let mut framer = Framer::new();
    let blocks = bytes.iter().map_while(|&byte| framer.push(byte).ok()).flatten();
    for block in blocks {
        let (head, request) = match block {
            Block::Message(message) => match order::read(&message, true) {
                Some(Heard::Order(head, request)) => (*head, request),
                _ => continue,
            },
            Block::TooLarge(start, len) => (order::head(&start), Err(Box::new(Refusal::too_large(len)))),
            Block::Broken => (Head::default(), Err(Box::new(Refusal::broken()))),
        };
        let refusal = request.as_ref().err().map(|refusal| &**refusal);
        let mut said = vec![reply::acknowledgement(&head, "box", refusal, "A1", "20261126120000+0000")];
        if let Ok(request) = &request {
            said.push(reply::answer(&head, answer, request.gene.as_deref(), "B1", "20261126120000+0000"));
        }
        heard(request.map(|request| *request).map_err(|refusal| refusal.fault), said);
    }
}

fn refused(reason: &'static str) {
    metrics::counter!("locus_refused_total", "transport" => "mllp", "reason" => reason).increment(1);
}

impl Listener {
    /// Binds.
    ///
    /// # Errors
    /// The address is taken, or a file of TLS cannot be used.
    pub async fn bind(section: &Mllp, box_name: &str) -> Result<Self, String> {
        let address = SocketAddr::new(section.address, section.port);
        let tls = Mutex::new(tls(section)?.map(TlsAcceptor::from));
        let named = |error: std::io::Error| format!("MLLP on {address}: {error}");
        let listener = TcpListener::bind(address).await.map_err(named)?;
        let address = listener.local_addr().map_err(named)?;
        let clock = SystemClock::new();
        let control = AtomicU64::new(clock.unix_ms() << 20);
        let (section, box_name) = (section.clone(), box_name.to_owned());
        Ok(Self { address, listener, served: Arc::new(Served { section, box_name, tls, clock, control }) })
    }

    /// Serves until `stop`.
    pub async fn run(self, pipeline: Pipeline, stop: CancellationToken) {
        let guests = Guests::with_limits("mllp", (STRANGERS, PEERS, PEERS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // No files are left, most likely: others end first.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let guest = guests.enter();
            let (served, pipeline, stop) = (Arc::clone(&self.served), pipeline.clone(), stop.clone());
            connections.spawn(async move {
                let end = served.connection(stream, guest, &pipeline, &stop).await;
                if let End::Refused(reason) = end {
                    refused(reason);
                }
                tracing::debug!(?end, "an MLLP connection ended");
            });
        }
        let all = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(END, all).await;
        connections.shutdown().await;
    }
}

impl Served {
    fn wait(&self) -> Duration {
        Duration::from_millis(self.section.wait_ms.into())
    }

    /// The files are read anew for every connection, so that a renewed certificate counts without a restart; while they
    /// cannot be used, what they held before counts.
    fn acceptor(&self) -> Option<TlsAcceptor> {
        let mut last = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        match tls(&self.section) {
            Ok(read) => *last = read.map(TlsAcceptor::from),
            Err(error) => tracing::error!(%error, "certificates stay as they were"),
        }
        last.clone()
    }

    async fn connection(
        &self,
        stream: TcpStream,
        guest: Arc<Guest>,
        pipeline: &Pipeline,
        stop: &CancellationToken,
    ) -> End {
        // A message is written at once and then waited on.
        let _ = stream.set_nodelay(true);
        let peer = Identity::of_line(&self.section.terminal);
        let Some(tls) = self.acceptor() else {
            return match guest.recognise(&peer) {
                Ok(()) => Connection::new(self, stream, stop).run(pipeline).await,
                Err(_) => End::Refused("connections"),
            };
        };
        let agreed = tokio::select! {
            () = stop.cancelled() => return End::Stopped,
            () = guest.ended() => return End::Closed,
            agreed = timeout(self.wait(), tls.accept(stream)) => agreed,
        };
        match agreed {
            Ok(Ok(stream)) if guest.recognise(&peer).is_ok() => {
                Connection::new(self, stream, stop).run(pipeline).await
            }
            Ok(Ok(_)) => End::Refused("connections"),
            _ => End::Refused("tls"),
        }
    }

    fn time(&self) -> String {
        now(&self.clock)
    }
}

/// One connection.
struct Connection<'a, S> {
    served: &'a Served,
    stop: &'a CancellationToken,
    stream: S,
    framer: Framer,
    input: Zeroizing<[u8; 4_096]>,
    /// What of the input was read and not yet taken.
    rest: std::ops::Range<usize>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Connection<'a, S> {
    fn new(served: &'a Served, stream: S, stop: &'a CancellationToken) -> Self {
        Self { served, stop, stream, framer: Framer::new(), input: Zeroizing::new([0; 4_096]), rest: 0..0 }
    }

    async fn run(mut self, pipeline: &Pipeline) -> End {
        loop {
            if let Err(end) = self.turn(pipeline).await {
                let _ = timeout(self.served.wait(), self.stream.shutdown()).await;
                return end;
            }
        }
    }

    /// The next block; one that began must end in time, and one must begin before `until`.
    async fn next(&mut self, until: Instant, late: End) -> Result<Block, End> {
        let mut whole = None;
        loop {
            for at in self.rest.by_ref() {
                match self.framer.push(self.input[at]) {
                    Ok(None) => {}
                    Ok(Some(block)) => return Ok(block),
                    Err(Hopeless::Noise) => return Err(End::Refused("framing")),
                    Err(Hopeless::Endless) => return Err(End::Refused("too_large")),
                }
            }
            self.input.zeroize();
            let (until, late) = if self.framer.inside() {
                let whole = *whole.get_or_insert_with(|| Instant::now() + self.served.wait());
                (whole, End::Refused("slow"))
            } else {
                (until, late)
            };
            let read = tokio::select! {
                () = self.stop.cancelled() => return Err(End::Stopped),
                read = timeout_at(until, self.stream.read(&mut self.input[..])) => read,
            };
            match read {
                Err(_) => return Err(late),
                Ok(Ok(0) | Err(_)) if self.framer.inside() => return Err(End::Refused("framing")),
                Ok(Ok(0) | Err(_)) => return Err(End::Closed),
                Ok(Ok(n)) => self.rest = 0..n,
            }
        }
    }

    async fn send(&mut self, message: Vec<u8>) -> Result<(), End> {
        let block = frame::block(&Zeroizing::new(message));
        let stream = &mut self.stream;
        let written = async {
            stream.write_all(&block).await?;
            stream.flush().await
        };
        match timeout(self.served.wait(), written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Closed),
            Err(_) => Err(End::Refused("slow")),
        }
    }

    async fn acknowledge(&mut self, head: &Head, refusal: Option<&Refusal>) -> Result<(), End> {
        let control = format!("A{:X}", self.served.control.fetch_add(1, Ordering::Relaxed));
        let time = self.served.time();
        self.send(reply::acknowledgement(head, &self.served.box_name, refusal, &control, &time)).await
    }

    /// What a block holds; `None` where it was answered or is none of ours.
    async fn heard(&mut self, block: Block) -> Result<Option<Heard>, End> {
        let (head, refusal, reason) = match block {
            Block::Message(message) => match order::read(&message, self.served.section.patient_as_subject) {
                Some(heard) => return Ok(Some(heard)),
                None => {
                    refused("no_message");
                    return Ok(None);
                }
            },
            Block::TooLarge(start, len) => (order::head(&start), Refusal::too_large(len), "too_large"),
            Block::Broken => (Head::default(), Refusal::broken(), "framing"),
        };
        refused(reason);
        self.acknowledge(&head, Some(&refusal)).await?;
        Ok(None)
    }

    async fn turn(&mut self, pipeline: &Pipeline) -> Result<(), End> {
        let idle = Instant::now() + Duration::from_millis(self.served.section.idle_ms.into());
        let block = self.next(idle, End::Idle).await?;
        let (head, request) = match self.heard(block).await? {
            Some(Heard::Order(head, request)) => (head, request),
            // Of an answer that was given up on, or of none.
            Some(Heard::Acknowledged { .. }) => {
                refused("not_asked");
                return Ok(());
            }
            None => return Ok(()),
        };
        let (request, refusal) = match request {
            Ok(request) => (Ok(*request), None),
            Err(refusal) => (Err(refusal.fault.clone()), Some(refusal)),
        };
        let gene = request.as_ref().ok().and_then(|request| request.gene.clone());
        let outcome = pipeline.ask(&self.served.section.terminal, "mllp", request).await;
        let answer = match &*outcome {
            Outcome::Answer(answer) => answer,
            Outcome::Fault(fault) => {
                let refusal = refusal.unwrap_or_else(|| Box::new(Refusal::of(fault)));
                return self.acknowledge(&head, Some(&refusal)).await;
            }
        };
        self.acknowledge(&head, None).await?;
        let control = control_of(answer)
            .unwrap_or_else(|| format!("A{:X}", self.served.control.fetch_add(1, Ordering::Relaxed)));
        let time = self.served.time();
        self.send(reply::answer(&head, answer, gene.as_deref(), &control, &time)).await?;
        self.acknowledged(&control).await
    }

    /// Waits until the peer says that it has an answer.
    async fn acknowledged(&mut self, control: &str) -> Result<(), End> {
        let until = Instant::now() + self.served.wait();
        for _ in 0..MAX_OUT_OF_TURN {
            let block = self.next(until, End::Refused("unacknowledged")).await?;
            match self.heard(block).await? {
                Some(Heard::Acknowledged { of, taken }) if of == control.as_bytes() => {
                    if !taken {
                        refused("not_taken");
                        tracing::warn!(
                            terminal = self.served.section.terminal,
                            "an answer was not taken; it is in the journal"
                        );
                    }
                    return Ok(());
                }
                Some(Heard::Acknowledged { .. }) => refused("not_asked"),
                Some(Heard::Order(head, _)) => {
                    refused("out_of_turn");
                    self.acknowledge(&head, Some(&Refusal::out_of_turn())).await?;
                }
                None => {}
            }
        }
        Err(End::Refused("out_of_turn"))
    }
}
