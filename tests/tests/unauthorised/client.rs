//! A client of MQTT that tries what it may not.

use locus_edge::client::Credentials;
use rumqttc::{
    AsyncClient, Event, MqttOptions, PublishOptions, TlsConfiguration, Transport,
    mqttbytes::{
        QoS,
        v5::{ConnectReturnCode, Packet, PubAckReason, SubscribeReasonCode},
    },
};

use crate::PATIENCE;

/// What is tried at a broker.
#[derive(Clone, Copy)]
pub(crate) enum Try<'a> {
    Connect,
    Publish(&'a str),
    Subscribe(&'a str),
}

/// Who tries it.
#[derive(Clone, Default)]
pub(crate) struct Who {
    pub(crate) port: u16,
    pub(crate) tls: Option<Credentials>,
    pub(crate) login: Option<(String, String)>,
    pub(crate) id: String,
}

impl Who {
    pub(crate) fn options(&self) -> MqttOptions {
        let mut options = MqttOptions::new(self.id.clone(), ("127.0.0.1", self.port));
        options.set_clean_start(true).set_keep_alive(30);
        if let Some(shown) = &self.tls {
            let config = shown.tls().unwrap();
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
        }
        if let Some((user, password)) = &self.login {
            options.set_credentials(user.clone(), password.clone());
        }
        options
    }

    /// Tries it; an error says how it was refused.
    pub(crate) async fn attempt(&self, what: Try<'_>) -> Result<String, String> {
        let (client, mut events) = AsyncClient::builder(self.options()).capacity(8).build();
        let trying = async {
            loop {
                match events.poll().await.map_err(|error| error.to_string())? {
                    Event::Incoming(Packet::ConnAck(ack)) if ack.code == ConnectReturnCode::Success => {
                        let tried = match what {
                            Try::Connect => return Ok("connected".to_owned()),
                            Try::Subscribe(filter) => {
                                client.subscribe(filter, QoS::AtLeastOnce).await.map(drop)
                            }
                            Try::Publish(topic) => {
                                let options = PublishOptions::new(QoS::AtLeastOnce);
                                client.publish(topic, "{}", options).await.map(drop)
                            }
                        };
                        tried.map_err(|error| error.to_string())?;
                    }
                    Event::Incoming(Packet::ConnAck(ack)) => return Err(format!("{:?}", ack.code)),
                    Event::Incoming(Packet::SubAck(ack)) => {
                        return match ack.return_codes[0] {
                            SubscribeReasonCode::Success(_) => Ok("subscribed".to_owned()),
                            code => Err(format!("{code:?}")),
                        };
                    }
                    Event::Incoming(Packet::PubAck(ack)) => {
                        return match ack.reason {
                            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => {
                                Ok("published".to_owned())
                            }
                            reason => Err(format!("{reason:?}")),
                        };
                    }
                    Event::Incoming(Packet::Disconnect(bye)) => return Err(format!("{:?}", bye.reason_code)),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, trying).await.map_err(|_| "no answer".to_owned())?
    }
}
