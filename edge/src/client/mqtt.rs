//! A terminal over MQTT v5, with response topic and correlation data.

use std::time::Duration;

use locus_firmware_config::message::{Outcome, Request};
use rumqttc::{
    AsyncClient, ConnectionError, Event, IncomingPacketSizeLimit, MqttOptions, NetworkOptions,
    PublishOptions, TlsConfiguration, Transport,
    mqttbytes::{
        QoS,
        v5::{Packet, PublishProperties, SubscribeReasonCode},
    },
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout_at},
};

use super::{ClientError, Credentials, json_of, outcome_of};
use crate::{
    keys::random,
    names::{request_topic, response_topic},
    transport::{MAX_INPUT_BYTES, mqtt::IN_FLIGHT},
};

/// What a subscriber is told.
enum Told {
    Ready,
    Refused(String),
    Answer(Vec<u8>, Vec<u8>),
}

/// Connected, and subscribed to its own answers.
#[derive(Debug)]
pub struct MqttTerminal {
    client: AsyncClient,
    told: mpsc::Receiver<Told>,
    events: JoinHandle<()>,
    request_topic: String,
    response_topic: String,
    number: u64,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

impl Drop for MqttTerminal {
    fn drop(&mut self) {
        self.events.abort();
    }
}

impl MqttTerminal {
    /// Connects to a broker that asks nobody who they are, and subscribes to a response topic of its own.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect(
        host: &str,
        port: u16,
        site: &str,
        terminal: &str,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        Self::connect_as(host, port, site, terminal, None, timeout).await
    }

    /// As [`MqttTerminal::connect`], with credentials: TLS where they trust an authority, a token as password.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect_as(
        host: &str,
        port: u16,
        site: &str,
        terminal: &str,
        credentials: Option<&Credentials>,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let to = format!("{host}:{port}");
        let failed = |reason: String| ClientError::Connect { to: to.clone(), reason };
        let tag = hex::encode(*random::<6>().map_err(|error| failed(error.to_string()))?);
        let mut options = MqttOptions::new(format!("{terminal}:{tag}"), (host, port));
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_network_options(network)
            .set_keep_alive(30)
            .set_clean_start(true)
            .set_outgoing_inflight_upper_limit(IN_FLIGHT)
            .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MAX_INPUT_BYTES as u32));
        if let Some(credentials) = credentials {
            if !credentials.authority.is_empty() {
                let config = credentials.tls().map_err(failed)?;
                options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
            }
            if let Some(token) = &credentials.token {
                options.set_credentials(terminal, token.to_string());
            }
        }
        let (client, mut events) = AsyncClient::builder(options).capacity(64).build();
        let response_topic = format!("{}/{tag}", response_topic(site, terminal));
        let (tell, told) = mpsc::channel(64);
        let (subscriber, topic) = (client.clone(), response_topic.clone());
        let events = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        let (subscriber, topic) = (subscriber.clone(), topic.clone());
                        tokio::spawn(async move { subscriber.subscribe(topic, QoS::AtLeastOnce).await });
                    }
                    Ok(Event::Incoming(Packet::SubAck(ack))) => {
                        let granted =
                            |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                        let told = match ack.return_codes.iter().find(|code| !granted(code)) {
                            Some(code) => Told::Refused(format!("the subscription: {code:?}")),
                            None => Told::Ready,
                        };
                        let _ = tell.try_send(told);
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let number = publish.properties.and_then(|p| p.correlation_data).unwrap_or_default();
                        let _ = tell.try_send(Told::Answer(number.to_vec(), publish.payload.to_vec()));
                    }
                    Ok(_) => {}
                    Err(ConnectionError::ConnectionRefused(code)) => {
                        let _ = tell.try_send(Told::Refused(format!("{code:?}")));
                        sleep(Duration::from_millis(50)).await;
                    }
                    Err(_) => sleep(Duration::from_millis(50)).await,
                }
            }
        });
        let mut terminal = Self {
            client,
            told,
            events,
            request_topic: request_topic(site, terminal),
            response_topic,
            number: 0,
        };
        let ready = tokio::time::timeout(timeout, terminal.told.recv()).await;
        match ready {
            Ok(Some(Told::Refused(reason))) => Err(ClientError::Refused(reason)),
            Ok(Some(_)) => Ok(terminal),
            _ => Err(failed(format!("the broker did not answer within {timeout:?}"))),
        }
    }

    /// Asks and waits.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask(&mut self, request: &Request, timeout: Duration) -> Result<Outcome, ClientError> {
        let body = json_of(request);
        let topic = self.response_topic.clone();
        self.ask_bytes(body, &topic, timeout).await
    }

    /// Publishes bytes as they are with a response topic, and waits for what comes back to this terminal.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask_bytes(
        &mut self,
        body: Vec<u8>,
        response_topic: &str,
        timeout: Duration,
    ) -> Result<Outcome, ClientError> {
        let until = tokio::time::Instant::now() + timeout;
        self.number += 1;
        let number = self.number.to_be_bytes();
        let properties = PublishProperties {
            response_topic: Some(response_topic.to_owned()),
            correlation_data: Some(number.to_vec().into()),
            ..PublishProperties::default()
        };
        let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
        timeout_at(until, self.client.publish(self.request_topic.clone(), body, options))
            .await
            .map_err(|_| ClientError::Timeout(timeout))?
            .map_err(|error| ClientError::Broken(error.to_string()))?;
        loop {
            match timeout_at(until, self.told.recv()).await {
                Err(_) => return Err(ClientError::Timeout(timeout)),
                Ok(None) => return Err(ClientError::Broken("the client ended".into())),
                Ok(Some(Told::Answer(correlation, payload))) if correlation == number => {
                    return outcome_of(&payload);
                }
                // A late answer to an earlier request, or a new connection.
                Ok(Some(_)) => {}
            }
        }
    }
}
