//! Where TLS begins: the handshake, with a limit of time, and whose certificate was shown.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Cut, Gate, Guest, Identity, Refusal};

/// Time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Who is on the other end, as far as the handshake says.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// No certificate.
    Stranger,
    /// A certificate that counts.
    Known(Identity),
    /// A certificate of this box's authority that does not.
    Refused(Refusal),
}

/// A door of one transport.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) gate: Arc<Gate>,
    pub(crate) web: bool,
}

/// A connection past its handshake.
pub(crate) struct Entered {
    pub(crate) stream: Cut<TlsStream<TcpStream>>,
    pub(crate) peer: Peer,
    pub(crate) guest: Arc<Guest>,
    pub(crate) from: SocketAddr,
}

impl Door {
    /// As it is counted.
    pub(crate) const fn transport(&self) -> &'static str {
        if self.web { "http" } else { "mqtt" }
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// No handshake within its time, or the connection was cut off meanwhile; counted.
    pub(crate) async fn enter(&self, stream: TcpStream) -> io::Result<Entered> {
        let guests = if self.web { &self.gate.web } else { &self.gate.mqtt };
        let guest = guests.enter();
        let from = stream.peer_addr()?;
        stream.set_nodelay(true)?;
        let acceptor = TlsAcceptor::from(self.gate.tls(self.web));
        let shaken = tokio::select! {
            () = guest.ended() => return Err(io::ErrorKind::ConnectionAborted.into()),
            shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)) => shaken,
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                Refusal::Handshake.count(self.transport());
                return Err(error);
            }
            Err(_) => {
                Refusal::Slow.count(self.transport());
                return Err(io::ErrorKind::TimedOut.into());
            }
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = match certificate.map(|der| self.gate.by_certificate(der)) {
            None => Peer::Stranger,
            Some(Ok(identity)) => match guest.recognise(&identity) {
                Ok(()) => Peer::Known(identity),
                Err(refusal) => Peer::Refused(refusal),
            },
            Some(Err(refusal)) => Peer::Refused(refusal),
        };
        Ok(Entered { stream: Cut::new(stream, Arc::clone(&guest)), peer, guest, from })
    }
}
