//! Where the box is that a terminal on the command line asks: here, with its configuration, or elsewhere.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::reach::{ReachArgs, Transport};
use crate::{
    access::{LOCAL, read_token},
    arguments::CONFIG,
    client::Credentials,
    config::{Config, MqttMode},
    state::{Endpoints, StateDir},
};

/// Ports where none is named: HTTPS, MQTT over TLS.
const PORTS: (u16, u16) = (8443, 8883);

/// A box on another machine.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AwayArgs {
    /// A box, or a site's broker, on another machine; no configuration is read then [default port: 8443, of MQTT 8883]
    #[arg(long, value_name = "HOST[:PORT]", requires = "ca", value_parser = host)]
    pub at: Option<(String, Option<u16>)>,
    /// What its certificate is issued by, such as the ca.crt of `locusctl enroll`
    #[arg(long, requires = "at")]
    pub ca: Option<PathBuf>,
    /// Its site, for the topics of MQTT
    #[arg(long, requires = "at")]
    pub site: Option<String>,
}

/// A name or address, and perhaps a port.
fn host(text: &str) -> Result<(String, Option<u16>), String> {
    let wrong =
        || format!("got {text:?}, expected a name or address, and perhaps a port, such as box.ward:8443");
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() {
        return Ok((bare.to_owned(), None));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse().map_err(|_| wrong())?)),
        None => (text, None),
    };
    let name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) if address.parse::<IpAddr>().is_ok() => address,
        Some(_) => return Err(wrong()),
        None => name,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let good = name.parse::<IpAddr>().is_ok() || !name.is_empty() && name.chars().all(plain);
    if good { Ok((name.to_owned(), port)) } else { Err(wrong()) }
}

/// Where the box is.
#[derive(Clone, Debug)]
pub enum Place {
    /// On this machine.
    Here(Box<Config>),
    /// Elsewhere, or at the end of a serial line of a machine without a configuration.
    Away(AwayArgs),
}

impl Place {
    /// What the arguments say; `lines`: only serial lines are asked over, for which a configuration says nothing but the speed.
    ///
    /// # Errors
    /// As [`Config::open`].
    pub fn of(path: &Path, away: &AwayArgs, lines: bool) -> Result<Self> {
        if away.at.is_some() || lines && path == Path::new(CONFIG) && !path.exists() {
            return Ok(Self::Away(away.clone()));
        }
        Ok(Self::Here(Box::new(Config::open(path)?)))
    }

    /// What the screen says of it.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Here(config) => format!("site {}, box {}", config.site, config.r#box),
            Self::Away(AwayArgs { at: Some((host, _)), .. }) => host.clone(),
            Self::Away(_) => "a serial line".into(),
        }
    }

    /// The speed of a serial line.
    pub(super) fn baud(&self) -> Option<u32> {
        match self {
            Self::Here(config) => config.serial.first().map(|line| line.baud),
            Self::Away(_) => None,
        }
    }

    /// What no waiting mends.
    pub(super) fn possible(&self, args: &ReachArgs, transport: Transport, port: Option<&Path>) -> Result<()> {
        match (transport, self) {
            (Transport::Serial, _) if port.is_none() => {
                bail!("expected --serial-port, the terminal's end of the line")
            }
            (Transport::Http, Self::Here(config)) if !config.http.enabled => {
                bail!("HTTPS is off in the configuration")
            }
            (Transport::Mqtt, Self::Here(config)) if config.mqtt.mode == MqttMode::Off => {
                bail!("MQTT is off in the configuration")
            }
            (Transport::Http | Transport::Mqtt, Self::Away(away)) => {
                ensure!(
                    args.certificate.is_some() || args.token_file.is_some(),
                    "a box elsewhere wants --certificate with --key, or --token-file, of `locusctl enroll`"
                );
                if transport == Transport::Mqtt {
                    ensure!(away.site.is_some(), "expected --site, which is in the topics of MQTT");
                    ensure!(args.terminal != LOCAL, "expected --terminal, the name that was enrolled");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What is shown: the token of this machine, unless other credentials are named.
    fn credentials(&self, args: &ReachArgs) -> Result<Credentials> {
        let (authority, token) = match self {
            Self::Here(config) => {
                let state = StateDir::new(&config.state);
                let authority = config.http.certificate.clone().unwrap_or_else(|| state.authority());
                (authority, Some(state.local_token()))
            }
            Self::Away(away) => (away.ca.clone().context("expected --ca")?, None),
        };
        let trusting = Credentials::trusting(&authority).with_context(|| authority.display().to_string())?;
        if let (Some(certificate), Some(key)) = (&args.certificate, &args.key) {
            return trusting.with_certificate(certificate, key).context("reading --certificate and --key");
        }
        let path = args.token_file.clone().or(token).context("expected --token-file")?;
        let token = read_token(&path)?.with_context(|| format!("no token in {}", path.display()))?;
        Ok(trusting.with_token(&token))
    }

    /// Where HTTPS is, and what is shown there.
    pub(super) fn https(&self, args: &ReachArgs) -> Result<(String, Credentials)> {
        let base = match self {
            Self::Here(config) => {
                endpoints(config)?.http.context("the daemon that runs has HTTPS off; start it again")?
            }
            Self::Away(away) => {
                let (host, port) = away.host(PORTS.0)?;
                if host.contains(':') {
                    format!("https://[{host}]:{port}")
                } else {
                    format!("https://{host}:{port}")
                }
            }
        };
        Ok((base, self.credentials(args)?))
    }

    /// Where MQTT is and of which site, and what is shown there.
    pub(super) fn mqtt(&self, args: &ReachArgs) -> Result<(String, u16, String, Credentials)> {
        let config = match self {
            Self::Here(config) => config,
            Self::Away(away) => {
                let ((host, port), site) =
                    (away.host(PORTS.1)?, away.site.clone().context("expected --site")?);
                return Ok((host, port, site, self.credentials(args)?));
            }
        };
        let (endpoints, mut credentials) = (endpoints(config)?, self.credentials(args)?);
        let plain = endpoints.mqtt.context("the daemon that runs has MQTT off; start it again")?;
        // A certificate needs TLS; a token is good enough on loopback.
        let address = match (endpoints.mqtts, &credentials.certificate) {
            (Some(encrypted), Some(_)) => encrypted,
            (Some(_), None) => {
                credentials.authority.clear();
                plain
            }
            (None, _) => {
                credentials.authority = match &config.mqtt.ca {
                    Some(ca) => std::fs::read(ca).with_context(|| ca.display().to_string())?,
                    None => Vec::new(),
                };
                if args.token_file.is_none() {
                    credentials.token = None;
                }
                plain
            }
        };
        let (host, port) = address.rsplit_once(':').context("no port in run/endpoints.json")?;
        Ok((host.to_owned(), port.parse()?, config.site.clone(), credentials))
    }
}

impl AwayArgs {
    fn host(&self, port: u16) -> Result<(String, u16)> {
        let (host, named) = self.at.clone().context("expected --at")?;
        Ok((host, named.unwrap_or(port)))
    }
}

fn endpoints(config: &Config) -> Result<Endpoints> {
    Endpoints::read(&StateDir::new(&config.state))
        .with_context(|| format!("no daemon runs on {}; start locusd", config.state.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_a_port_or_without() {
        for (text, name, port) in [
            ("box.ward", "box.ward", None),
            ("box.ward:9443", "box.ward", Some(9443)),
            ("10.1.2.3", "10.1.2.3", None),
            ("10.1.2.3:1", "10.1.2.3", Some(1)),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
            ("[fe80::2]:8443", "fe80::2", Some(8443)),
        ] {
            assert_eq!(host(text), Ok((name.to_owned(), port)), "{text}");
        }
        for text in
            ["", ":8443", "box:", "box:70000", "https://box", "a/b", "box ward", "[box]:1", "::1:x", "u@box"]
        {
            let error = host(text).unwrap_err();
            assert!(error.contains("expected a name or address"), "{text}: {error}");
        }
    }
}
