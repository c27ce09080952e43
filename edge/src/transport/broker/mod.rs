//! The broker inside the daemon, for a box without one at its site.

mod acl;
mod front;
mod turns;

use std::{net::SocketAddr, sync::Arc};

use mqtt5::broker::{
    BrokerConfig, MqttBroker,
    config::{AuthConfig, StorageConfig},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::MAX_INPUT_BYTES;
use crate::{
    access::{Door, Gate, MOST},
    keys::random,
};
pub use acl::BOX;
use acl::{Bringing, Rules};
use front::Front;
use turns::Turns;

/// A running broker.
#[derive(Debug)]
pub struct Embedded {
    /// Where it listens without TLS, on loopback.
    pub address: SocketAddr,
    /// Where it speaks TLS.
    pub tls_address: SocketAddr,
    /// Where the box alone connects.
    pub inner: SocketAddr,
    /// What it shows there.
    pub secret: Zeroizing<String>,
    shutdown: Shutdown,
    stopping: CancellationToken,
    task: JoinHandle<()>,
}

struct Shutdown(mqtt5::broker::BrokerShutdownHandle);

impl std::fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shutdown")
    }
}

/// Where a broker listens, and of which box it is.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Without TLS, on loopback.
    pub address: SocketAddr,
    /// With TLS.
    pub tls_address: SocketAddr,
    /// Site of the topics.
    pub site: String,
    /// Name of the box.
    pub box_name: String,
}

/// Messages on the way to one client.
const LANE: usize = 1_024;
/// Messages, and their bytes, that wait for a client which is away or does not read.
const QUEUED: usize = 1_024;
const QUEUED_BYTES: usize = 2 << 20;

async fn listener(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let failed = |error: std::io::Error| format!("the embedded broker on {address}: {error}");
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Starts a broker that keeps nothing on the disk; `ended` is told why, should it end before it is stopped.
///
/// # Errors
/// An address is taken, or the broker refuses its configuration.
pub async fn start(
    listening: &Listening,
    gate: Arc<Gate>,
    ended: impl FnOnce(String) + Send + 'static,
) -> Result<Embedded, String> {
    let (plain, address) = listener(listening.address).await?;
    let (encrypted, tls_address) = listener(listening.tls_address).await?;
    let config = BrokerConfig::new()
        .with_bind_address(SocketAddr::from(([127, 0, 0, 1], 0)))
        // The box itself is one more.
        .with_max_clients(MOST + 1)
        .with_max_packet_size(MAX_INPUT_BYTES)
        .with_maximum_qos(1)
        .with_max_subscriptions_per_client(32)
        .with_max_retained_messages(64)
        .with_max_retained_message_size(64 << 10)
        .with_sys_topics_enabled(false)
        .with_session_expiry(std::time::Duration::from_secs(300))
        // Only until the rules take its place, before anybody can connect.
        .with_auth(AuthConfig { allow_anonymous: true, ..AuthConfig::default() })
        .with_event_handler(Arc::new(Turns::new(&listening.site)))
        // Whoever publishes to a full lane waits; of what a client does not take in the end the oldest is dropped, and it asks again.
        .with_client_channel_capacity(LANE)
        .with_storage(
            StorageConfig::new()
                .with_persistence(false)
                .with_max_queued_messages_per_client(QUEUED)
                .with_max_queued_bytes_per_client(QUEUED_BYTES),
        );
    let secret = random::<32>().map_err(|error| error.to_string())?;
    let secret = Zeroizing::new(hex::encode(*secret));
    let bringing = Bringing::default();
    let rules = Rules {
        gate: Arc::clone(&gate),
        bringing: Arc::clone(&bringing),
        site: listening.site.clone(),
        box_name: listening.box_name.clone(),
        secret: secret.clone(),
    };
    let failed = |error: mqtt5::MqttError| format!("the embedded broker on {address}: {error}");
    let broker = MqttBroker::with_config(config).await.map_err(failed)?;
    let mut broker = broker.with_auth_provider(Arc::new(rules));
    let inner = broker.local_addr().ok_or("the embedded broker has no address")?;
    let shutdown = Shutdown(broker.shutdown_handle());
    let mut ready = broker.ready_receiver();
    let running = tokio::spawn(async move { broker.run().await });
    let stopping = CancellationToken::new();
    let stopped = stopping.clone();
    let task = tokio::spawn(async move {
        let reason = match running.await {
            Ok(Ok(())) => "the embedded broker ended".to_owned(),
            Ok(Err(error)) => format!("the embedded broker ended: {error}"),
            Err(_) => "the embedded broker ended by a defect".to_owned(),
        };
        if !stopped.is_cancelled() {
            ended(reason);
        }
    });
    ready.wait_for(|ready| *ready).await.map_err(|_| "the embedded broker ended at once".to_owned())?;
    for (listener, tls) in [(plain, false), (encrypted, true)] {
        let door = Door { gate: Arc::clone(&gate), web: false };
        let front = Front { door, tls, broker: inner, bringing: Arc::clone(&bringing) };
        tokio::spawn(front.run(listener, stopping.clone()));
    }
    Ok(Embedded { address, tls_address, inner, secret, shutdown, stopping, task })
}

impl Embedded {
    /// Ends it.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.shutdown.0.shutdown();
        if tokio::time::timeout(std::time::Duration::from_secs(2), self.task).await.is_err() {
            tracing::warn!("the embedded broker did not end in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn started() -> (tempfile::TempDir, Embedded, tokio::sync::oneshot::Receiver<String>) {
        let dir = tempfile::tempdir().unwrap();
        let text = "site = \"s\"\nbox = \"b\"\nstate = \"state\"\n[models]\ntrusted_keys = [\"p\"]\n[journal]\nrecipients = [\"h\"]\n";
        let config = crate::config::Config::parse(text, &dir.path().join("locusd.toml")).unwrap();
        let (tell, told) = tokio::sync::oneshot::channel();
        let ended = move |reason| tell.send(reason).unwrap();
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (site, box_name) = (config.site.clone(), config.r#box.clone());
        let listening = Listening { address: free, tls_address: free, site, box_name };
        let broker = start(&listening, Gate::open(&config).unwrap(), ended).await.unwrap();
        (dir, broker, told)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_end_that_nobody_asked_for_is_told() {
        let (_dir, broker, told) = started().await;
        broker.shutdown.0.shutdown();
        assert!(told.await.unwrap().contains("embedded broker ended"));
        let (_dir, broker, told) = started().await;
        broker.stop().await;
        assert!(told.await.is_err(), "an end that was asked for is told to nobody");
    }
}
