//! MQTT v5: requests by shared subscription, acknowledged only after the answer is durable.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use locus_firmware_config::message::{Fault, Outcome, Request};
use rumqttc::{
    AckMode, AsyncClient, Event, EventLoop, IncomingPacketSizeLimit, MqttOptions, NetworkOptions,
    PublishOptions,
    mqttbytes::{
        QoS,
        v5::{LastWill, Packet, Publish, PublishProperties},
    },
};
use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::MAX_INPUT_BYTES;
use crate::{
    config::Mqtt,
    names::{answer_topic, response_topic, status_topic, terminal_of},
    pipeline::Pipeline,
};

/// Requests of QoS 0 and 1 in work at once; QoS 0 has no other bound.
const TASKS: usize = 512;
/// Time between attempts to reach the broker.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Time for the last messages when the box stops.
const GOODBYE: Duration = Duration::from_secs(2);
/// How often the head of the journal is published, if it moved.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// What a client of MQTT is told.
#[derive(Clone, Debug)]
pub struct Link {
    /// Site of the topics.
    pub site: String,
    /// Name of the box.
    pub box_name: String,
    /// Broker's host.
    pub host: String,
    /// Broker's port.
    pub port: u16,
    /// Whether it is connected.
    pub connected: Arc<AtomicBool>,
}

fn options(link: &Link, config: &Mqtt) -> std::io::Result<MqttOptions> {
    let id = format!("locus-{}-{}", link.site, link.box_name);
    let mut options = MqttOptions::new(id, (link.host.as_str(), link.port));
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let will = LastWill::new(
        status_topic(&link.site, &link.box_name),
        status(link, "offline"),
        QoS::AtLeastOnce,
        true,
        None,
    );
    options
        .set_network_options(network)
        .set_keep_alive(10)
        .set_clean_start(false)
        .set_session_expiry_interval(Some(config.session_expiry_s))
        .set_receive_maximum(Some(config.receive_maximum))
        .set_max_packet_size(Some(MAX_INPUT_BYTES as u32))
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MAX_INPUT_BYTES as u32))
        .set_ack_mode(AckMode::Manual)
        .set_last_will(will);
    if let Some(user) = &config.username {
        let password = match &config.password_file {
            Some(path) => Zeroizing::new(std::fs::read_to_string(path)?),
            None => Zeroizing::default(),
        };
        options.set_credentials(user.clone(), password.trim().to_owned());
    }
    Ok(options)
}

fn status(link: &Link, word: &str) -> Vec<u8> {
    let (name, version) = (&link.box_name, env!("CARGO_PKG_VERSION"));
    serde_json::json!({ "status": word, "box": name, "version": version }).to_string().into_bytes()
}

struct Context {
    client: AsyncClient,
    link: Link,
    pipeline: Pipeline,
    /// Grows with every connection: an acknowledgement of an older one belongs to nobody.
    connection: AtomicU64,
    tasks: Arc<Semaphore>,
}

/// Serves until `stop`, through every loss of the broker.
///
/// # Errors
/// The password file cannot be read.
pub async fn run(
    pipeline: Pipeline,
    link: Link,
    config: Mqtt,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let (client, mut events) = AsyncClient::builder(options(&link, &config)?).capacity(TASKS).build();
    let filter = format!("$share/{}/locus/v1/{}/request/+", config.group, link.site);
    let tasks = Arc::new(Semaphore::new(TASKS));
    let context = Arc::new(Context { client, link, pipeline, connection: AtomicU64::new(0), tasks });
    let mut backoff = BACKOFF.0;
    let mut tick = interval(CHECKPOINT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut published = 0;
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {
                context.checkpoint(&mut published);
                continue;
            }
            event = events.poll() => event,
        };
        match event {
            Ok(event) => {
                backoff = BACKOFF.0;
                context.take(event, &filter);
            }
            Err(error) => {
                if context.link.connected.swap(false, Ordering::AcqRel) || backoff == BACKOFF.0 {
                    tracing::warn!(%error, "the broker is gone");
                }
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = sleep(backoff) => backoff = (backoff * 2).min(BACKOFF.1),
                }
            }
        }
    }
    goodbye(&context, &mut events).await;
    Ok(())
}

/// Sends what is still in work, says that the box goes, and disconnects.
async fn goodbye(context: &Context, events: &mut EventLoop) {
    if !context.link.connected.load(Ordering::Acquire) {
        return;
    }
    let last = async {
        let _all = context.tasks.acquire_many(TASKS as u32).await;
        context.publish_status("offline").await;
        let _ = context.client.disconnect().await;
    };
    let ended = Instant::now() + GOODBYE;
    tokio::pin!(last);
    let mut said = false;
    while Instant::now() < ended {
        tokio::select! {
            () = &mut last, if !said => said = true,
            event = events.poll() => if event.is_err() { break },
            () = tokio::time::sleep_until(ended) => break,
        }
    }
}

impl Context {
    fn take(self: &Arc<Self>, event: Event, filter: &str) {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                self.connection.fetch_add(1, Ordering::AcqRel);
                self.link.connected.store(true, Ordering::Release);
                tracing::info!(host = %self.link.host, port = self.link.port, "connected to the broker");
                let (context, filter) = (Arc::clone(self), filter.to_owned());
                tokio::spawn(async move {
                    if let Err(error) = context.client.subscribe(filter, QoS::AtLeastOnce).await {
                        tracing::error!(%error, "requests cannot be subscribed to");
                    }
                    context.publish_status("online").await;
                });
            }
            Event::Incoming(Packet::Publish(publish)) => {
                let Ok(permit) = Arc::clone(&self.tasks).try_acquire_owned() else {
                    // Only QoS 0 gets here: QoS 1 is bounded by the receive maximum.
                    metrics::counter!("locus_mqtt_dropped_total").increment(1);
                    return;
                };
                let (context, connection) = (Arc::clone(self), self.connection.load(Ordering::Acquire));
                tokio::spawn(async move {
                    context.answer(&publish, connection).await;
                    drop(permit);
                });
            }
            _ => {}
        }
    }

    async fn answer(&self, publish: &Publish, connection: u64) {
        let topic = String::from_utf8_lossy(&publish.topic);
        if let Some(terminal) = terminal_of(&self.link.site, &topic) {
            self.ask(terminal, publish).await;
        } else {
            tracing::warn!("a request came on a topic that names no terminal; nobody can be answered");
        }
        // After a lost connection the broker delivers again, under a new number.
        if publish.qos != QoS::AtMostOnce
            && self.connection.load(Ordering::Acquire) == connection
            && let Err(error) = self.client.ack(publish).await
        {
            tracing::warn!(%error, "a request could not be acknowledged");
        }
    }

    async fn ask(&self, terminal: &str, publish: &Publish) {
        let properties = publish.properties.as_ref();
        let asked = properties.and_then(|p| p.response_topic.as_deref());
        let (topic, request): (String, Result<Request, Fault>) =
            match answer_topic(&self.link.site, terminal, asked) {
                Ok(topic) => (topic, Request::from_json(&publish.payload)),
                Err(fault) => (response_topic(&self.link.site, terminal), Err(fault)),
            };
        let outcome = self.pipeline.ask(terminal, "mqtt", request).await;
        let properties = PublishProperties {
            correlation_data: properties.and_then(|p| p.correlation_data.clone()),
            content_type: Some("application/json".into()),
            ..PublishProperties::default()
        };
        let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
        if let Err(error) = self.client.publish(topic, Outcome::to_json(&outcome), options).await {
            tracing::warn!(%error, "an answer could not be published; the terminal asks again");
        }
    }

    async fn publish_status(&self, word: &str) {
        let topic = status_topic(&self.link.site, &self.link.box_name);
        let options = PublishOptions::new(QoS::AtLeastOnce).retained();
        if let Err(error) = self.client.publish(topic, status(&self.link, word), options).await {
            tracing::warn!(%error, "the status could not be published");
        }
    }

    /// Publishes the signed head of the journal, retained, so that others witness it.
    fn checkpoint(&self, published: &mut u64) {
        let (next, checkpoint) = self.pipeline.journal().head();
        let Some(checkpoint) = checkpoint.filter(|_| next != *published) else { return };
        if !self.link.connected.load(Ordering::Acquire) {
            return;
        }
        let topic = format!("locus/v1/{}/checkpoint/{}", self.link.site, self.link.box_name);
        let Ok(json) = serde_json::to_vec(&checkpoint) else { return };
        let options = PublishOptions::new(QoS::AtLeastOnce).retained();
        if self.client.try_publish(topic, json, options).is_ok() {
            *published = next;
        }
    }
}
