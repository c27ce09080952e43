//! What the site wants of its box: one TOML file, refused as a whole where any of it is unknown or impossible.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use locus_firmware_config::profile::{DeviceProfile, ProfileError};
use serde::{Deserialize, Serialize};

use crate::names::is_name;

/// Largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}; name it with --config")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML of this shape.
    #[error("configuration {path}: {source}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A value that cannot be.
    #[error("configuration {path}: got {field} = {got}, expected {expected}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        field: &'static str,
        /// Its value.
        got: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The device profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

/// The file, with every default filled in; `locusd config print` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the site: part of every MQTT topic.
    pub site: String,
    /// Name of this box, unique at the site.
    pub r#box: String,
    /// Folder for slots, journal and keys.
    pub state: PathBuf,
    /// A shipped device profile, or a TOML file.
    #[serde(default = "default_profile")]
    pub profile: String,
    /// Whose models are taken.
    pub models: Models,
    /// How models run here.
    #[serde(default)]
    pub engine: Engine,
    /// The genome that `variant` requests are read on.
    pub reference: Option<Reference>,
    /// Who may read results.
    pub journal: JournalSection,
    /// How much is taken at once.
    #[serde(default)]
    pub limits: Limits,
    /// MQTT.
    #[serde(default)]
    pub mqtt: Mqtt,
    /// HTTPS.
    #[serde(default)]
    pub http: Http,
    /// Serial lines.
    #[serde(default)]
    pub serial: Vec<Serial>,
}

/// Whose models are taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// Ed25519 public keys (SPKI PEM), the signature of any of which is enough.
    #[serde(default)]
    pub trusted_keys: Vec<PathBuf>,
    /// Instead of them the first trust document: roles, thresholds, expiry. The box keeps it and moves forward from there.
    pub trust: Option<PathBuf>,
    /// Answers that a flashed model gives on trial before it is confirmed by itself; 0 confirms it once it has passed its
    /// self-test in the thread that serves.
    #[serde(default)]
    pub confirm_after: u32,
    /// Whether a trial waits for `locusctl confirm` instead.
    #[serde(default)]
    pub confirm_by_hand: bool,
    /// A folder in which new bundles are flashed by themselves, such as that of a stick.
    pub watch: Option<PathBuf>,
    /// Most bytes that the bundles of all models that serve have together.
    #[serde(default = "default_memory")]
    pub memory_bytes: u64,
}

fn default_memory() -> u64 {
    crate::slots::MAX_SERVED_BYTES
}

/// How models run here; what is absent is the profile's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// Engines in the order to try them.
    pub order: Vec<String>,
    /// `auto`, `fp32` or `int8`.
    pub precision: Option<String>,
    /// Threads inside one operator.
    pub intra_threads: Option<u32>,
    /// The ONNX Runtime library.
    pub onnxruntime: Option<PathBuf>,
}

/// The genome that `variant` requests are read on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Bases.
    pub fasta: PathBuf,
    /// Transcripts.
    pub gff: PathBuf,
    /// Assembly that both are of.
    #[serde(default = "default_assembly")]
    pub assembly: String,
}

/// Who may read results, and how long a segment key lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalSection {
    /// Files of recipients' public keys, at least one.
    pub recipients: Vec<PathBuf>,
    /// Most records of a segment.
    #[serde(default = "default_rotate_records")]
    pub rotate_records: u64,
    /// Most bytes of a segment.
    #[serde(default = "default_rotate_bytes")]
    pub rotate_bytes: u64,
    /// Longest life of a segment's key.
    #[serde(default = "default_rotate_ms")]
    pub rotate_ms: u64,
    /// How many of the latest requests are recognised after a restart.
    #[serde(default = "default_remember")]
    pub remember: usize,
}

/// How much is taken at once. A unit is one forward pass of a pair; long messages cost more.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Units that may be waiting or running.
    pub queue_units: u32,
    /// How long an answer is repeated from memory.
    pub replay_ms: u64,
    /// Most answers kept for that.
    pub replay_answers: usize,
    /// Time after which no answer is wanted, where the request names none.
    pub deadline_ms: u32,
    /// Time to finish what was taken when the box stops.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_units: 256,
            replay_ms: 300_000,
            replay_answers: 4_096,
            deadline_ms: 10_000,
            drain_ms: 5_000,
        }
    }
}

/// Where MQTT goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MqttMode {
    /// A broker inside the daemon.
    Embedded,
    /// The site's broker.
    External,
    /// None.
    Off,
}

/// MQTT.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// Where it goes.
    pub mode: MqttMode,
    /// The broker's host; the embedded one listens on this address.
    pub host: String,
    /// The broker's port; 0 lets the embedded one take a free one.
    pub port: u16,
    /// Boxes of one group share the requests.
    pub group: String,
    /// How long the broker keeps the box's session: 300 for a single box, 0 in a shared group.
    pub session_expiry_s: u32,
    /// Requests taken before the first is acknowledged.
    pub receive_maximum: u16,
    /// Whether a broker on another machine may be used although the box speaks no TLS to it.
    pub without_tls: bool,
    /// User name at the site's broker.
    pub username: Option<String>,
    /// File with its password.
    pub password_file: Option<PathBuf>,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            mode: MqttMode::Embedded,
            host: "127.0.0.1".into(),
            port: 1883,
            group: "locus".into(),
            session_expiry_s: 300,
            receive_maximum: 64,
            without_tls: false,
            username: None,
            password_file: None,
        }
    }
}

/// HTTPS.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Whether it listens.
    pub enabled: bool,
    /// Address; loopback until roles exist.
    pub address: IpAddr,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// Certificate chain (PEM); made and self-signed where absent.
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM).
    pub key: Option<PathBuf>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            enabled: true,
            address: IpAddr::from([127, 0, 0, 1]),
            port: 8443,
            certificate: None,
            key: None,
        }
    }
}

/// One serial line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serial {
    /// The device, best by its stable name under /dev/serial/by-id.
    pub path: PathBuf,
    /// Name of the terminal on it.
    pub terminal: String,
    /// Bits per second.
    #[serde(default = "default_baud")]
    pub baud: u32,
}

fn default_profile() -> String {
    "cpu-x86".into()
}

fn default_assembly() -> String {
    "GRCh38".into()
}

const fn default_rotate_records() -> u64 {
    10_000
}

const fn default_rotate_bytes() -> u64 {
    64 << 20
}

const fn default_rotate_ms() -> u64 {
    15 * 60_000
}

const fn default_remember() -> usize {
    100_000
}

const fn default_baud() -> u32 {
    115_200
}

impl Config {
    /// Reads and checks a file; relative paths in it start at its folder.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let io = |source| ConfigError::Io { path: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(io)?.len();
        if size > MAX_FILE_BYTES {
            return Err(io(std::io::ErrorKind::FileTooLarge.into()));
        }
        Self::parse(&std::fs::read_to_string(path).map_err(io)?, path)
    }

    /// As [`Config::open`], from text; `path` is for messages and relative paths.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text)
            .map_err(|source| ConfigError::Toml { path: path.to_owned(), source: Box::new(source) })?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        if let Some((field, got, expected)) = config.problem() {
            return Err(ConfigError::Value { path: path.to_owned(), field, got, expected });
        }
        config.device_profile()?;
        Ok(config)
    }

    /// The device profile that is named.
    ///
    /// # Errors
    /// [`ConfigError::Profile`], [`ConfigError::Io`].
    pub fn device_profile(&self) -> Result<DeviceProfile, ConfigError> {
        if !self.profile.ends_with(".toml") {
            return Ok(DeviceProfile::named(&self.profile)?);
        }
        let path = PathBuf::from(&self.profile);
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Io { path, source })?;
        Ok(DeviceProfile::parse(&self.profile, &text)?)
    }

    fn resolve(&mut self, folder: &Path) {
        let optional = [
            &mut self.models.trust,
            &mut self.models.watch,
            &mut self.engine.onnxruntime,
            &mut self.mqtt.password_file,
            &mut self.http.certificate,
            &mut self.http.key,
        ];
        let reference = self.reference.iter_mut().flat_map(|r| [&mut r.fasta, &mut r.gff]);
        let all = std::iter::once(&mut self.state)
            .chain(&mut self.models.trusted_keys)
            .chain(&mut self.journal.recipients)
            .chain(self.serial.iter_mut().map(|line| &mut line.path))
            .chain(optional.into_iter().flatten())
            .chain(reference);
        for path in all {
            *path = folder.join(&*path);
        }
        if self.profile.ends_with(".toml") {
            self.profile = folder.join(&self.profile).display().to_string();
        }
    }

    /// Key, value and what it may be, of the first value that cannot be.
    fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        const NAME: &str = "1 to 64 letters, digits, dots, dashes or underscores";
        let limits = &self.limits;
        let loopback =
            self.mqtt.host.parse::<IpAddr>().map_or(self.mqtt.host == "localhost", |a| a.is_loopback());
        let bad_terminal = self.serial.iter().find(|line| !is_name(&line.terminal));
        let checks = [
            (is_name(&self.site), "site", self.site.clone(), NAME),
            (is_name(&self.r#box), "box", self.r#box.clone(), NAME),
            (is_name(&self.mqtt.group), "mqtt.group", self.mqtt.group.clone(), NAME),
            (
                bad_terminal.is_none(),
                "serial.terminal",
                bad_terminal.map(|line| line.terminal.clone()).unwrap_or_default(),
                NAME,
            ),
            (
                self.models.trusted_keys.is_empty() == self.models.trust.is_some(),
                "models.trusted_keys",
                if self.models.trust.is_some() { "keys beside models.trust".into() } else { "[]".into() },
                "at least one public key, or models.trust instead",
            ),
            (
                !self.journal.recipients.is_empty(),
                "journal.recipients",
                "[]".into(),
                "at least one public key",
            ),
            (
                (1..=65_536).contains(&limits.queue_units),
                "limits.queue_units",
                limits.queue_units.to_string(),
                "1 to 65,536",
            ),
            (limits.deadline_ms > 0, "limits.deadline_ms", "0".into(), "1 or more"),
            (self.mqtt.receive_maximum > 0, "mqtt.receive_maximum", "0".into(), "1 to 65,535"),
            (
                self.mqtt.mode != MqttMode::Embedded || loopback,
                "mqtt.host",
                self.mqtt.host.clone(),
                "a loopback address: roles do not exist yet",
            ),
            (
                self.mqtt.mode != MqttMode::External || loopback || self.mqtt.without_tls,
                "mqtt.host",
                self.mqtt.host.clone(),
                "a loopback address: the box speaks no TLS to a broker, and whoever is on the way would read sequences and results; where the way is protected otherwise, say so with mqtt.without_tls = true",
            ),
            (
                self.mqtt.password_file.is_none() || self.mqtt.username.is_some(),
                "mqtt.password_file",
                "a file without mqtt.username".into(),
                "both, or neither",
            ),
            (
                self.mqtt.mode != MqttMode::External || self.mqtt.port != 0,
                "mqtt.port",
                "0".into(),
                "the port of the site's broker",
            ),
            (
                self.http.address.is_loopback(),
                "http.address",
                self.http.address.to_string(),
                "a loopback address: roles do not exist yet",
            ),
            (
                self.http.certificate.is_some() == self.http.key.is_some(),
                "http.certificate",
                "one of the two".into(),
                "certificate and key, or neither",
            ),
        ];
        checks.into_iter().find(|(good, ..)| !good).map(|(_, field, got, expected)| (field, got, expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "site = \"s\"\nbox = \"b\"\nstate = \"state\"\n[models]\ntrusted_keys = [\"p.pub\"]\n[journal]\nrecipients = [\"/k/h.pub\"]\n";

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("/etc/locus/locusd.toml"))
    }

    #[test]
    fn paths_start_at_the_files_folder_and_what_is_printed_reads_back() {
        let config = parse(SMALL).unwrap();
        assert_eq!(config.state, Path::new("/etc/locus/state"));
        assert_eq!(config.models.trusted_keys, [Path::new("/etc/locus/p.pub")]);
        assert_eq!(config.journal.recipients, [Path::new("/k/h.pub")]);
        assert_eq!((config.http.port, config.mqtt.mode), (8443, MqttMode::Embedded));
        let printed = toml::to_string(&config).unwrap();
        assert_eq!(toml::to_string(&parse(&printed).unwrap()).unwrap(), printed);
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (extra, named) in [
            ("[http]\naddress = \"0.0.0.0\"\n", "http.address"),
            ("[mqtt]\nhost = \"10.0.0.1\"\n", "mqtt.host"),
            ("[mqtt]\nmode = \"external\"\nport = 0\n", "mqtt.port"),
            ("[mqtt]\nmode = \"external\"\nhost = \"10.0.0.1\"\n", "mqtt.without_tls"),
            ("[mqtt]\npassword_file = \"p\"\n", "mqtt.username"),
            ("[mqtt]\ngroup = \"a/b\"\n", "mqtt.group"),
            ("[limits]\nqueue_units = 0\n", "limits.queue_units"),
            ("[[serial]]\npath = \"/dev/ttyS0\"\nterminal = \"#\"\n", "serial.terminal"),
            ("[http]\nprot = 1\n", "prot"),
            ("[http]\ncertificate = \"c.pem\"\n", "http.certificate"),
        ] {
            let error = parse(&format!("{SMALL}{extra}")).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("locusd.toml"), "{error}");
        }
        for said in ["host = \"localhost\"", "host = \"::1\"", "host = \"broker.ward\"\nwithout_tls = true"] {
            let config = parse(&format!("{SMALL}[mqtt]\nmode = \"external\"\n{said}\n"));
            assert!(config.is_ok(), "{said}: {config:?}");
        }
        assert!(parse(&SMALL.replace("\"s\"", "\"a+b\"")).is_err());
        assert!(parse(&format!("profile = \"none-such\"\n{SMALL}")).is_err());
        assert!(parse(&SMALL.replace("[\"p.pub\"]", "[]")).unwrap_err().to_string().contains("trusted_keys"));
    }
}
