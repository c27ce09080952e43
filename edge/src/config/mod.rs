//! What the site wants of its box: one TOML file, refused as a whole where any of it is unknown or impossible.

mod access;
mod http;
mod journal;
mod mllp;
mod models;
mod mqtt;
mod serial;
mod traces;

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use locus_firmware_config::profile::{DeviceProfile, ProfileError};
use serde::{Deserialize, Serialize};

pub use access::Access;
pub use http::Http;
pub use journal::{ClockSection, JournalSection, Limits};
pub use mllp::Mllp;
pub use models::{Engine, Models, Reference};
pub use mqtt::{Mqtt, MqttMode};
pub use serial::{Lis, Protocol, Serial};
pub use traces::Traces;

use crate::names::is_name;

/// Largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// What a name may be.
const NAME: &str = "1 to 64 letters, digits, dots, dashes or underscores";

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
    /// What the box asks of its clock.
    #[serde(default)]
    pub clock: ClockSection,
    /// How much is taken at once.
    #[serde(default)]
    pub limits: Limits,
    /// MQTT.
    #[serde(default)]
    pub mqtt: Mqtt,
    /// HTTPS.
    #[serde(default)]
    pub http: Http,
    /// Who may use the box over a network.
    #[serde(default)]
    pub access: Access,
    /// Serial lines.
    #[serde(default)]
    pub serial: Vec<Serial>,
    /// HL7 v2 over MLLP.
    #[serde(default)]
    pub mllp: Vec<Mllp>,
    /// Traces, where there is somebody to post them to.
    #[serde(default)]
    pub traces: Traces,
}

fn default_profile() -> String {
    "cpu-x86".into()
}

/// A value that cannot be.
struct Problem {
    field: &'static str,
    got: String,
    expected: &'static str,
}

impl Problem {
    /// The first check that does not hold: (whether it does, key, value, what it may be).
    fn first<const N: usize>(checks: [(bool, &'static str, String, &'static str); N]) -> Option<Self> {
        let bad = checks.into_iter().find(|(good, ..)| !good);
        bad.map(|(_, field, got, expected)| Self { field, got, expected })
    }
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
        if let Some(Problem { field, got, expected }) = config.problem() {
            return Err(ConfigError::Value { path: path.to_owned(), field, got, expected });
        }
        config.device_profile()?;
        Ok(config)
    }

    /// The device profile that is named, with as many cores as the configuration says.
    ///
    /// # Errors
    /// [`ConfigError::Profile`], [`ConfigError::Io`].
    pub fn device_profile(&self) -> Result<DeviceProfile, ConfigError> {
        let mut profile = if self.profile.ends_with(".toml") {
            let path = PathBuf::from(&self.profile);
            let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Io { path, source })?;
            DeviceProfile::parse(&self.profile, &text)?
        } else {
            DeviceProfile::named(&self.profile)?
        };
        if let Some(threads) = self.engine.intra_threads {
            profile.intra_threads = threads;
        }
        Ok(profile.check()?)
    }

    /// Small files that it names: keys, certificates, trust; not the reference, libraries and devices.
    pub fn named_files(&self) -> Vec<PathBuf> {
        let mut config = self.clone();
        let optional = [&config.http.certificate, &config.http.key];
        let mut files: Vec<PathBuf> = optional.into_iter().flatten().cloned().collect();
        files.extend(config.mqtt.paths().map(|path| path.clone()));
        files.extend(config.serial.iter().filter_map(|line| line.key_file.clone()));
        files.extend(config.journal.recipients.iter().cloned());
        files.extend(config.mllp.iter_mut().flat_map(Mllp::files).map(|path| path.clone()));
        files.extend(config.traces.paths().map(|path| path.clone()));
        files.extend(config.models.paths().map(|path| path.clone()));
        files.extend(self.profile.ends_with(".toml").then(|| PathBuf::from(&self.profile)));
        files
    }

    /// Of the files that it names those that hold a secret and can be read by everybody on the machine: a line on each.
    pub fn exposed(&self) -> Vec<String> {
        let secrets = [&self.http.key, &self.mqtt.key, &self.mqtt.password_file, &self.traces.headers_file];
        let secrets = secrets.into_iter().flatten();
        let secrets = secrets
            .chain(self.mllp.iter().filter_map(|listener| listener.key.as_ref()))
            .chain(self.serial.iter().filter_map(|line| line.key_file.as_ref()));
        let modes = secrets.filter_map(|path| Some((path, std::fs::metadata(path).ok()?.mode() & 0o777)));
        modes
            .filter(|(_, mode)| mode & 0o007 != 0)
            .map(|(path, mode)| {
                format!(
                    "{}: got mode {mode:03o}, expected a secret that others cannot read (chmod o= makes it one)",
                    path.display()
                )
            })
            .collect()
    }

    fn resolve(&mut self, folder: &Path) {
        let optional = [&mut self.engine.onnxruntime, &mut self.http.certificate, &mut self.http.key];
        let all = std::iter::once(&mut self.state)
            .chain(self.models.paths())
            .chain(&mut self.journal.recipients)
            .chain(self.serial.iter_mut().flat_map(Serial::paths))
            .chain(self.mqtt.paths())
            .chain(self.mllp.iter_mut().flat_map(Mllp::files))
            .chain(self.traces.paths())
            .chain(optional.into_iter().flatten())
            .chain(&mut self.clock.synchronized_file)
            .chain(self.reference.iter_mut().flat_map(Reference::paths));
        for path in all {
            *path = folder.join(&*path);
        }
        if self.profile.ends_with(".toml") {
            self.profile = folder.join(&self.profile).display().to_string();
        }
    }

    /// The first value that cannot be.
    fn problem(&self) -> Option<Problem> {
        let names = [
            (is_name(&self.site), "site", self.site.clone(), NAME),
            (is_name(&self.r#box), "box", self.r#box.clone(), NAME),
        ];
        Problem::first(names)
            .or_else(|| self.mqtt.problem())
            .or_else(|| self.serial.iter().find_map(Serial::problem))
            .or_else(|| self.mllp.iter().find_map(Mllp::problem))
            .or_else(|| self.models.problem())
            .or_else(|| self.journal.problem())
            .or_else(|| self.limits.problem())
            .or_else(|| self.http.problem())
            .or_else(|| self.traces.problem())
            .or_else(|| self.access.problem())
            .or_else(|| self.access_problem())
    }

    /// Whoever needs no credentials must at least be on this machine.
    fn access_problem(&self) -> Option<Problem> {
        let http = !self.http.enabled || self.http.address.is_loopback();
        let mqtt = self.mqtt.mode != MqttMode::Embedded || self.mqtt.tls_address.is_loopback();
        (self.access.anonymous && !(http && mqtt)).then(|| Problem {
            field: "access.anonymous",
            got: "true".into(),
            expected: "false where http.address or mqtt.tls_address is not on loopback",
        })
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
    fn a_secret_that_everybody_can_read_is_named_and_one_for_a_group_is_not() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "{SMALL}[http]\ncertificate = \"c\"\nkey = \"k\"\n[mqtt]\nmode = \"external\"\nusername = \"u\"\npassword_file = \"w\"\n"
        );
        let config = Config::parse(&text, &dir.path().join("locusd.toml")).unwrap();
        assert!(config.exposed().is_empty(), "what is not there is named by whoever reads it");
        for (name, mode) in [("c", 0o644), ("k", 0o644), ("w", 0o640)] {
            std::fs::write(dir.path().join(name), "x").unwrap();
            std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let exposed = config.exposed();
        assert_eq!(exposed.len(), 1, "{exposed:?}");
        assert!(exposed[0].contains("/k: got mode 644"), "{exposed:?}");
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (extra, named) in [
            ("[access]\nanonymous = true\n[http]\naddress = \"0.0.0.0\"\n", "access.anonymous"),
            ("[access]\nanonymous = true\n[mqtt]\ntls_address = \"0.0.0.0\"\n", "access.anonymous"),
            ("[access]\nsession_idle_ms = 1\n", "access.session_idle_ms"),
            ("[access]\nsession_idle_ms = 5000\nsession_ms = 4000\n", "access.session_idle_ms"),
            ("[access]\nsession_ms = 604800001\n", "access.session_ms"),
            ("[http]\nnames = [\"a b\"]\n", "http.names"),
            ("[mqtt]\nca = \"ca.pem\"\n", "mqtt.ca"),
            ("[mqtt]\nmode = \"external\"\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n", "mqtt.certificate"),
            ("[mqtt]\nmode = \"external\"\nca = \"c.pem\"\nwithout_tls = true\n", "mqtt.without_tls"),
            ("[mqtt]\nhost = \"10.0.0.1\"\n", "mqtt.host"),
            ("[mqtt]\nmode = \"external\"\nport = 0\n", "mqtt.port"),
            ("[mqtt]\nmode = \"external\"\nhost = \"10.0.0.1\"\n", "mqtt.without_tls"),
            ("[mqtt]\npassword_file = \"p\"\n", "mqtt.username"),
            ("[mqtt]\ngroup = \"a/b\"\n", "mqtt.group"),
            ("[limits]\nqueue_units = 0\n", "limits.queue_units"),
            ("free_without_copy = true\n", "journal.free_without_copy"),
            ("rotate_records = 0\n", "journal.rotate_records"),
            ("[[serial]]\npath = \"/dev/ttyS0\"\nterminal = \"#\"\n", "serial.terminal"),
            ("[[mllp]]\nterminal = \"a b\"\n", "mllp.terminal"),
            ("[[mllp]]\nterminal = \"a\"\naddress = \"0.0.0.0\"\n", "mllp.address"),
            (
                "[[mllp]]\nterminal = \"a\"\naddress = \"10.0.0.1\"\ncertificate = \"c\"\nkey = \"k\"\n",
                "mllp.address",
            ),
            ("[[mllp]]\nterminal = \"a\"\nkey = \"k\"\n", "mllp.certificate"),
            ("[[mllp]]\nterminal = \"a\"\nclient_ca = \"k\"\n", "mllp.client_ca"),
            ("[[mllp]]\nterminal = \"a\"\nwait_ms = 0\n", "mllp.wait_ms"),
            ("[[mllp]]\nterminal = \"a\"\nidle_ms = 0\n", "mllp.idle_ms"),
            (
                "[[serial]]\npath = \"/dev/ttyS0\"\nterminal = \"a\"\nprotocol = \"lis\"\nkey_file = \"k\"\n",
                "serial.key_file",
            ),
            ("[[serial]]\npath = \"/dev/ttyS0\"\nterminal = \"a\"\nlis = { reply_ms = 0 }\n", "serial.lis"),
            ("[traces]\nendpoint = \"http://10.0.0.1:4318/v1/traces\"\n", "traces.endpoint"),
            ("[traces]\nendpoint = \"http://127.0.0.1:4318\"\nca = \"c.pem\"\n", "traces.ca"),
            ("[traces]\nheaders_file = \"h\"\n", "traces.endpoint"),
            ("[traces]\nratio = 1.5\n", "traces.ratio"),
            ("[traces]\ntimeout_ms = 1\n", "traces.timeout_ms"),
            ("[traces]\nqueue = 0\n", "traces.queue"),
            ("[http]\nprot = 1\n", "prot"),
            ("[http]\ncertificate = \"c.pem\"\n", "http.certificate"),
        ] {
            let error = parse(&format!("{SMALL}{extra}")).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("locusd.toml"), "{error}");
        }
        assert!(
            parse(&format!("{SMALL}[http]\naddress = \"0.0.0.0\"\nnames = [\"box.ward\", \"10.0.0.7\"]\n"))
                .is_ok()
        );
        for said in [
            "host = \"localhost\"",
            "host = \"::1\"",
            "host = \"broker.ward\"\nwithout_tls = true",
            "host = \"broker.ward\"\nca = \"ca.pem\"",
            "host = \"broker.ward\"\nca = \"ca.pem\"\ncertificate = \"c.pem\"\nkey = \"k.pem\"",
        ] {
            let config = parse(&format!("{SMALL}[mqtt]\nmode = \"external\"\n{said}\n"));
            assert!(config.is_ok(), "{said}: {config:?}");
        }
        assert!(parse(&SMALL.replace("\"s\"", "\"a+b\"")).is_err());
        assert!(parse(&format!("profile = \"none-such\"\n{SMALL}")).is_err());
        assert!(parse(&SMALL.replace("[\"p.pub\"]", "[]")).unwrap_err().to_string().contains("trusted_keys"));
    }
}
