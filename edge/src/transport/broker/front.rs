//! The way into the embedded broker: TLS, who was authenticated, and how many at once.
//!
//! The broker itself listens on a port of its own on loopback and lets in only whom the front brings: its library shows no
//! certificate to whoever decides, and gives a handshake no limit of time.

use std::{io, net::SocketAddr, sync::PoisonError, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::acl::{Bringing, Brought};
use crate::access::{Cut, Door, Peer};

/// Pause after a connection that could not be taken, such as for want of files.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes that are on their way at once, each way.
const BUFFER: usize = 16 << 10;

/// One listener.
pub(super) struct Front {
    pub(super) door: Door,
    pub(super) tls: bool,
    pub(super) broker: SocketAddr,
    pub(super) bringing: Bringing,
}

/// Forgets the address before the port is free for others.
struct Forget(Bringing, SocketAddr);

impl Drop for Forget {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Front {
    /// Takes connections until `stop`.
    pub(super) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let front = std::sync::Arc::new(self);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (front, stop) = (std::sync::Arc::clone(&front), stop.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            // How a connection ends is nobody's business; what is refused was counted.
                            _ = front.bring(stream) => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the broker could not be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn bring(&self, stream: TcpStream) -> io::Result<()> {
        if self.tls {
            let entered = self.door.enter(stream).await?;
            let brought = Brought { peer: entered.peer, guest: entered.guest, from: entered.from };
            return self.carry(entered.stream, brought).await;
        }
        let guest = self.door.gate.mqtt.enter();
        let from = stream.peer_addr()?;
        stream.set_nodelay(true)?;
        let brought = Brought { peer: Peer::Stranger, guest: std::sync::Arc::clone(&guest), from };
        self.carry(Cut::new(stream, guest), brought).await
    }

    async fn carry(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        brought: Brought,
    ) -> io::Result<()> {
        let mut broker = TcpStream::connect(self.broker).await?;
        broker.set_nodelay(true)?;
        let address = broker.local_addr()?;
        self.bringing.lock().unwrap_or_else(PoisonError::into_inner).insert(address, brought);
        let _forget = Forget(std::sync::Arc::clone(&self.bringing), address);
        copy_bidirectional_with_sizes(&mut stream, &mut broker, BUFFER, BUFFER).await?;
        Ok(())
    }
}
