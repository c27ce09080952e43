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
    AckMode, AsyncClient, ClientError, Event, EventLoop, IncomingPacketSizeLimit, MqttOptions,
    NetworkOptions, PublishOptions, TlsConfiguration, Transport,
    mqttbytes::{
        QoS,
        v5::{LastWill, Packet, Publish, PublishProperties, SubAck, SubscribeReasonCode},
    },
};
use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

mod progress;

use progress::Progress;

use super::{MAX_INPUT_BYTES, broker::BOX, tls};
use crate::{
    config::{Config, Mqtt},
    names::{answer_topic, response_topic, status_topic, terminal_of},
    pipeline::Pipeline,
    traces::{self, Parent},
};

/// Requests of QoS 0 in work at once: nothing else bounds them, and nobody is promised that they arrive.
const TASKS: usize = 512;
/// Requests in work at once, more than ever are: those of QoS 1 are bounded by the receive maximum, and only a lost
/// connection adds to them. None of them may be dropped: it would stay unacknowledged, and nobody would answer it.
const ALL_TASKS: u32 = 1 << 20;
/// Messages that a client has sent and the broker has not taken yet. The library looks at the place of every one after each read:
/// the 65,535 that it keeps unless it is told otherwise, or a broker allows fewer, cost more than all else on the way.
pub const IN_FLIGHT: u16 = 128;
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
    /// What the box shows to its own broker; the configuration's credentials are for the site's.
    pub own: Option<Zeroizing<String>>,
    /// Whether it is connected and requests arrive.
    pub connected: Arc<AtomicBool>,
}

impl Link {
    /// Not connected yet.
    pub fn new(config: &Config, host: String, port: u16) -> Self {
        let (site, box_name) = (config.site.clone(), config.r#box.clone());
        Self { site, box_name, host, port, own: None, connected: Arc::default() }
    }
}

/// How the box is a client of its broker.
///
/// # Errors
/// The password file or a certificate cannot be read.
pub fn options(link: &Link, config: &Mqtt) -> Result<MqttOptions, String> {
    let id = format!("locus-{}-{}", link.site, link.box_name);
    let mut options = MqttOptions::new(id, (link.host.as_str(), link.port));
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let will = LastWill::new(
        status_topic(&link.site, &link.box_name),
        status(link, "offline", &[]),
        QoS::AtLeastOnce,
        true,
        None,
    );
    options
        .set_network_options(network)
        .set_keep_alive(10)
        // A process that is new knows nothing of a session that the broker may have kept for the one before it.
        .set_clean_start(true)
        .set_session_expiry_interval(Some(config.session_expiry_s))
        .set_receive_maximum(Some(config.receive_maximum))
        .set_outgoing_inflight_upper_limit(IN_FLIGHT)
        .set_max_packet_size(Some(MAX_INPUT_BYTES as u32))
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MAX_INPUT_BYTES as u32))
        .set_ack_mode(AckMode::Manual)
        .set_last_will(will);
    if let Some(secret) = &link.own {
        options.set_credentials(BOX, secret.to_string());
        return Ok(options);
    }
    if let Some(config) = tls::client(config)? {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
    }
    if let Some(user) = &config.username {
        let password = match &config.password_file {
            Some(path) => Zeroizing::new(
                std::fs::read_to_string(path)
                    .map_err(|error| format!("mqtt.password_file {}: {error}", path.display()))?,
            ),
            None => Zeroizing::default(),
        };
        options.set_credentials(user.clone(), password.trim().to_owned());
    }
    Ok(options)
}

/// `models`: names of those that serve, where they are known.
fn status(link: &Link, word: &str, models: &[String]) -> Vec<u8> {
    let (name, version) = (&link.box_name, env!("CARGO_PKG_VERSION"));
    serde_json::json!({ "status": word, "box": name, "version": version, "models": models })
        .to_string()
        .into_bytes()
}

struct Context {
    client: AsyncClient,
    link: Link,
    pipeline: Pipeline,
    /// Grows with every connection: an acknowledgement of an older one belongs to nobody.
    connection: AtomicU64,
    progress: Progress,
    /// How long a broker keeps an answer for a terminal that is away, in seconds; 0 for as long as its session.
    answer_expiry_s: u32,
    /// Of QoS 0.
    tasks: Arc<Semaphore>,
    all_tasks: Arc<Semaphore>,
}

/// Serves the requests of a group until `stop`, through every loss of the broker.
pub async fn run(
    pipeline: Pipeline,
    link: Link,
    options: MqttOptions,
    config: Mqtt,
    stop: CancellationToken,
) {
    let filter = format!("$share/{}/locus/v1/{}/request/+", config.group, link.site);
    loop {
        let (client, mut events) = AsyncClient::builder(options.clone()).capacity(TASKS).build();
        let context = Arc::new(Context {
            client,
            link: link.clone(),
            pipeline: pipeline.clone(),
            connection: AtomicU64::new(0),
            progress: Progress::new(Duration::from_millis(config.stalled_ms.into())),
            answer_expiry_s: config.answer_expiry_s,
            tasks: Arc::new(Semaphore::new(TASKS)),
            all_tasks: Arc::new(Semaphore::new(ALL_TASKS as usize)),
        });
        match serve(&context, &mut events, &filter, &stop).await {
            Ended::Stopped => return goodbye(&context, &mut events).await,
            Ended::Stalled => {
                // Its state is not trusted any more; what it had not sent is asked for again by the terminals.
                link.connected.store(false, Ordering::Release);
                metrics::counter!("locus_mqtt_rebuilt_total").increment(1);
                tracing::error!("the client of the broker does not move any more; it is made anew");
            }
        }
    }
}

/// Why a client is no longer served.
enum Ended {
    Stopped,
    Stalled,
}

async fn serve(
    context: &Arc<Context>,
    events: &mut EventLoop,
    filter: &str,
    stop: &CancellationToken,
) -> Ended {
    let mut backoff = BACKOFF.0;
    let mut tick = interval(CHECKPOINT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut published = 0;
    let mut shown: Vec<String> = context.pipeline.models().into_keys().collect();
    loop {
        let event = {
            let next = events.poll();
            tokio::pin!(next);
            // A tick leaves the poll alone: it may be a connect that takes longer than that.
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ended::Stopped,
                    _ = tick.tick() => {
                        if context.progress.is_stalled() {
                            return Ended::Stalled;
                        }
                        context.checkpoint(&mut published, &mut shown);
                    }
                    event = &mut next => break event,
                }
            }
        };
        match event {
            Ok(event) => {
                backoff = BACKOFF.0;
                if matches!(event, Event::Incoming(Packet::ConnAck(_))) {
                    // From now on the session is this process's own: the broker keeps what comes while it is away.
                    events.options.set_clean_start(false);
                }
                context.take(event, filter);
            }
            Err(error) => {
                context.progress.disconnected();
                if context.link.connected.swap(false, Ordering::AcqRel) || backoff == BACKOFF.0 {
                    tracing::warn!(%error, "the broker is gone");
                }
                tokio::select! {
                    () = stop.cancelled() => return Ended::Stopped,
                    () = sleep(backoff) => backoff = (backoff * 2).min(BACKOFF.1),
                }
            }
        }
    }
}

/// Sends what is still in work, says that the box goes, and disconnects.
async fn goodbye(context: &Context, events: &mut EventLoop) {
    if !context.link.connected.load(Ordering::Acquire) {
        return;
    }
    let last = async {
        let _all = context.all_tasks.acquire_many(ALL_TASKS).await;
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
                self.progress.connected();
                let (context, filter) = (Arc::clone(self), filter.to_owned());
                tokio::spawn(async move {
                    if let Err(error) = context.client.subscribe(filter, QoS::AtLeastOnce).await {
                        tracing::error!(%error, "requests cannot be subscribed to");
                    }
                });
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                self.progress.subscribed();
                self.subscribed(&ack);
            }
            Event::Incoming(Packet::PubAck(_)) => self.progress.acknowledged(),
            Event::Incoming(Packet::Publish(publish)) => {
                let unbounded = publish.qos == QoS::AtMostOnce;
                let one = unbounded.then(|| Arc::clone(&self.tasks).try_acquire_owned()).transpose();
                let (Ok(one), Ok(other)) = (one, Arc::clone(&self.all_tasks).try_acquire_owned()) else {
                    metrics::counter!("locus_mqtt_dropped_total").increment(1);
                    return;
                };
                let (context, connection) = (Arc::clone(self), self.connection.load(Ordering::Acquire));
                tokio::spawn(async move {
                    context.answer(&publish, connection).await;
                    drop((one, other));
                });
            }
            _ => {}
        }
    }

    /// Only now do requests arrive.
    fn subscribed(self: &Arc<Self>, ack: &SubAck) {
        let refused = ack.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
        if let Some(code) = refused {
            tracing::error!(
                ?code,
                "the broker refuses the subscription: no request arrives over MQTT; allow it to this box"
            );
            return;
        }
        self.link.connected.store(true, Ordering::Release);
        tracing::info!(host = %self.link.host, port = self.link.port, "requests arrive from the broker");
        let context = Arc::clone(self);
        tokio::spawn(async move { context.publish_status("online").await });
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
        let named = properties.and_then(|p| p.user_properties.iter().find(|(key, _)| key == traces::PARENT));
        let parent = named.map(|(_, value)| Parent::of(value)).unwrap_or_default();
        let asked_for = self.pipeline.ask_within(terminal, "mqtt", request, &parent);
        let outcome = match properties.and_then(|p| p.message_expiry_interval) {
            None => asked_for.await,
            // What the broker counted down is what is left.
            Some(seconds) => match timeout(Duration::from_secs(seconds.into()), asked_for).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    metrics::counter!("locus_mqtt_expired_total").increment(1);
                    return;
                }
            },
        };
        let properties = PublishProperties {
            message_expiry_interval: Some(self.answer_expiry_s).filter(|seconds| *seconds > 0),
            correlation_data: properties.and_then(|p| p.correlation_data.clone()),
            content_type: Some("application/json".into()),
            ..PublishProperties::default()
        };
        let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
        if let Err(error) = self.publish(topic, Outcome::to_json(&outcome), options).await {
            tracing::warn!(%error, "an answer could not be published; the terminal asks again");
        }
    }

    async fn publish_status(&self, word: &str) {
        let topic = status_topic(&self.link.site, &self.link.box_name);
        let models: Vec<String> = self.pipeline.models().into_keys().collect();
        let options = PublishOptions::new(QoS::AtLeastOnce).retained();
        if let Err(error) = self.publish(topic, status(&self.link, word, &models), options).await {
            tracing::warn!(%error, "the status could not be published");
        }
    }

    /// With QoS 1: an acknowledgement is expected.
    async fn publish(
        &self,
        topic: String,
        payload: Vec<u8>,
        options: PublishOptions,
    ) -> Result<(), ClientError> {
        self.progress.published();
        self.client.publish(topic, payload, options).await
    }

    /// Publishes the signed head of the journal, retained, so that others witness it; and the status anew where other
    /// models serve.
    fn checkpoint(self: &Arc<Self>, published: &mut u64, shown: &mut Vec<String>) {
        let models: Vec<String> = self.pipeline.models().into_keys().collect();
        if models != *shown && self.link.connected.load(Ordering::Acquire) {
            *shown = models;
            let context = Arc::clone(self);
            tokio::spawn(async move { context.publish_status("online").await });
        }
        let (next, checkpoint) = self.pipeline.journal().head();
        let Some(checkpoint) = checkpoint.filter(|_| next != *published) else { return };
        if !self.link.connected.load(Ordering::Acquire) {
            return;
        }
        let topic = format!("locus/v1/{}/checkpoint/{}", self.link.site, self.link.box_name);
        let Ok(json) = serde_json::to_vec(&checkpoint) else { return };
        let options = PublishOptions::new(QoS::AtLeastOnce).retained();
        if self.client.try_publish(topic, json, options).is_ok() {
            self.progress.published();
            *published = next;
        }
    }
}

#[cfg(test)]
mod tests;
