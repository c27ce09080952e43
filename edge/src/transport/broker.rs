//! The broker inside the daemon, for a box without one at its site.

use std::net::SocketAddr;

use mqtt5::broker::{
    BrokerConfig, MqttBroker,
    config::{AuthConfig, StorageConfig},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::MAX_INPUT_BYTES;

/// Terminals at once.
const MAX_CLIENTS: usize = 256;

/// A running broker.
#[derive(Debug)]
pub struct Embedded {
    /// Where it listens.
    pub address: SocketAddr,
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

/// Starts a broker that keeps nothing on the disk; `ended` is told why, should it end before it is stopped.
///
/// # Errors
/// The address is taken, or the broker refuses its configuration.
pub async fn start(
    address: SocketAddr,
    ended: impl FnOnce(String) + Send + 'static,
) -> Result<Embedded, String> {
    let config = BrokerConfig::new()
        .with_bind_address(address)
        .with_max_clients(MAX_CLIENTS)
        .with_max_packet_size(MAX_INPUT_BYTES)
        .with_maximum_qos(1)
        .with_max_subscriptions_per_client(32)
        .with_max_retained_messages(64)
        .with_max_retained_message_size(64 << 10)
        .with_sys_topics_enabled(false)
        .with_session_expiry(std::time::Duration::from_secs(300))
        .with_auth(AuthConfig { allow_anonymous: true, ..AuthConfig::default() })
        .with_storage(StorageConfig::new().with_persistence(false));
    let failed = |error: mqtt5::MqttError| format!("the embedded broker on {address}: {error}");
    let mut broker = MqttBroker::with_config(config).await.map_err(failed)?;
    let address = broker.local_addr().ok_or("the embedded broker has no address")?;
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
    Ok(Embedded { address, shutdown, stopping, task })
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

    async fn started() -> (Embedded, tokio::sync::oneshot::Receiver<String>) {
        let (tell, told) = tokio::sync::oneshot::channel();
        let ended = move |reason| tell.send(reason).unwrap();
        (start("127.0.0.1:0".parse().unwrap(), ended).await.unwrap(), told)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_end_that_nobody_asked_for_is_told() {
        let (broker, told) = started().await;
        broker.shutdown.0.shutdown();
        assert!(told.await.unwrap().contains("embedded broker ended"));
        let (broker, told) = started().await;
        broker.stop().await;
        assert!(told.await.is_err(), "an end that was asked for is told to nobody");
    }
}
