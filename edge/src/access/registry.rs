//! Who is enrolled: names, roles and digests of credentials, in one file that is replaced as a whole.

use std::{
    collections::HashSet,
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::role::Role;
use crate::{
    names::is_name,
    state::StateDir,
    vfs::{Access, OsVfs, Vfs, folder_of, write_atomic},
};

/// Largest registry, in bytes.
const MAX_BYTES: u64 = 16 << 20;
/// Most credentials; the revoked and expired ones of long ago go first.
const MAX_CREDENTIALS: usize = 20_000;
/// Version of the file.
const FORMAT: u32 = 1;
/// How long a change waits for another one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the registry cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A file.
    #[error("registry {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a registry.
    #[error("registry {path}: {detail}; put back a copy, or remove it and enrol everybody anew")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A change that cannot be.
    #[error("{0}")]
    Refused(String),
}

/// What somebody shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A client certificate.
    Certificate,
    /// A bearer token, which is also a password of MQTT.
    Token,
}

/// One certificate or token: of both only the SHA-256 is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// What it is.
    pub kind: Kind,
    /// SHA-256 of the certificate or token, in hex.
    pub sha256: String,
    /// Serial number of a certificate, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// When it was issued, in seconds since 1970.
    pub issued_s: u64,
    /// When it ends.
    pub expires_s: u64,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_s: Option<u64>,
}

impl Credential {
    /// Whether it counts.
    pub const fn counts(&self, now_s: u64) -> bool {
        self.revoked_s.is_none() && now_s < self.expires_s
    }

    /// The digest as bytes.
    pub fn digest(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(&self.sha256, &mut bytes).ok().map(|()| bytes)
    }
}

/// Somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolled {
    /// The name: it is the terminal's.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What it shows.
    pub credentials: Vec<Credential>,
}

/// Everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    /// By name.
    pub enrolled: Vec<Enrolled>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    enrolled: Vec<Enrolled>,
}

impl Registry {
    /// Reads the registry of a box; there is none before the first enrolment.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn read(state: &StateDir) -> Result<Self, RegistryError> {
        let path = state.registry();
        match OsVfs.read(&path, MAX_BYTES) {
            Ok(bytes) => Self::parse(&bytes).map_err(|detail| RegistryError::Damaged { path, detail }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(RegistryError::Io { path, source }),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if file.format != FORMAT {
            return Err(format!("got format {}, expected {FORMAT}", file.format));
        }
        let (mut names, mut digests) = (HashSet::new(), HashSet::new());
        for one in &file.enrolled {
            if !is_name(&one.name) || !names.insert(one.name.as_str()) {
                return Err("a name that is none, or is there twice".into());
            }
            for credential in &one.credentials {
                let digest = credential.digest().ok_or("a digest that is no SHA-256")?;
                if !digests.insert(digest) {
                    return Err("one credential of two".into());
                }
            }
        }
        drop((names, digests));
        Ok(Self { enrolled: file.enrolled })
    }

    /// Reads, changes and writes, while nobody else does.
    ///
    /// # Errors
    /// [`RegistryError`]; then the file is as it was.
    pub fn change<T>(
        state: &StateDir,
        now_s: u64,
        change: impl FnOnce(&mut Self) -> Result<T, RegistryError>,
    ) -> Result<(Self, T), RegistryError> {
        let path = state.registry();
        let io = |path: PathBuf| move |source| RegistryError::Io { path, source };
        OsVfs.create_dir_all(folder_of(&path)).map_err(io(path.clone()))?;
        let lock = state.registry_lock();
        let began = Instant::now();
        let _lock = loop {
            match OsVfs.lock(&lock) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => break other.map_err(io(lock.clone()))?,
            }
        };
        let mut registry = Self::read(state)?;
        let result = change(&mut registry)?;
        registry.thin_out(now_s);
        let file = File { format: FORMAT, enrolled: registry.enrolled.clone() };
        let mut json = serde_json::to_vec_pretty(&file).map_err(|error| io(path.clone())(error.into()))?;
        json.push(b'\n');
        write_atomic(&OsVfs, &path, &json, Access::Private).map_err(io(path.clone()))?;
        Ok((registry, result))
    }

    /// Adds a credential; a name keeps its role for as long as any of its credentials counts.
    ///
    /// # Errors
    /// [`RegistryError::Refused`].
    pub fn add(
        &mut self,
        name: &str,
        role: Role,
        credential: Credential,
        now_s: u64,
    ) -> Result<(), RegistryError> {
        match self.enrolled.iter_mut().find(|one| one.name == name) {
            Some(one) => {
                let counts = one.credentials.iter().any(|credential| credential.counts(now_s));
                if counts && one.role != role {
                    return Err(RegistryError::Refused(format!(
                        "{name} is enrolled as {}, got {role}; revoke it first",
                        one.role
                    )));
                }
                one.role = role;
                one.credentials.push(credential);
            }
            None => {
                self.enrolled.push(Enrolled { name: name.to_owned(), role, credentials: vec![credential] })
            }
        }
        self.enrolled.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(())
    }

    /// Somebody by name.
    ///
    /// # Errors
    /// [`RegistryError::Refused`] where nobody has it.
    pub fn find_mut(&mut self, name: &str) -> Result<&mut Enrolled, RegistryError> {
        let found = self.enrolled.iter_mut().find(|one| one.name == name);
        found.ok_or_else(|| {
            RegistryError::Refused(format!("nobody is enrolled as {name}; see `locusctl access list`"))
        })
    }

    /// Revokes what counts of a name, or of it what begins with `digits`; how many.
    ///
    /// # Errors
    /// [`RegistryError::Refused`] where there is nothing to revoke.
    pub fn revoke(&mut self, name: &str, digits: Option<&str>, now_s: u64) -> Result<usize, RegistryError> {
        let one = self.find_mut(name)?;
        let mut revoked = 0;
        for credential in &mut one.credentials {
            let meant = digits.is_none_or(|digits| credential.sha256.starts_with(digits));
            if meant && credential.revoked_s.is_none() {
                credential.revoked_s = Some(now_s);
                revoked += 1;
            }
        }
        if revoked == 0 {
            return Err(RegistryError::Refused(format!("nothing of {name} is left to revoke")));
        }
        Ok(revoked)
    }

    /// Serial numbers of revoked certificates whose time is not over, and when they were revoked.
    pub fn revoked(&self, now_s: u64) -> Vec<(String, u64)> {
        let all = self.enrolled.iter().flat_map(|one| &one.credentials);
        all.filter(|credential| now_s < credential.expires_s)
            .filter_map(|credential| Some((credential.serial.clone()?, credential.revoked_s?)))
            .collect()
    }

    /// The oldest that count no more go, so that the file stays bounded. What is gone is unknown, which is refused too.
    fn thin_out(&mut self, now_s: u64) {
        let count = |all: &[Enrolled]| all.iter().map(|one| one.credentials.len()).sum::<usize>();
        while count(&self.enrolled) > MAX_CREDENTIALS {
            let all = self.enrolled.iter().flat_map(|one| &one.credentials);
            let dead = all.filter(|c| !c.counts(now_s)).map(|c| c.issued_s).min();
            let Some(oldest) = dead else { break };
            for one in &mut self.enrolled {
                one.credentials.retain(|c| c.counts(now_s) || c.issued_s > oldest);
            }
            self.enrolled.retain(|one| !one.credentials.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(n: u8, expires_s: u64) -> Credential {
        let sha256 = hex::encode([n; 32]);
        Credential { kind: Kind::Token, sha256, serial: None, issued_s: 1, expires_s, revoked_s: None }
    }

    #[test]
    fn what_was_changed_is_read_back_and_what_was_refused_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        assert_eq!(Registry::read(&state).unwrap(), Registry::default());
        let change = |change: &dyn Fn(&mut Registry) -> Result<(), RegistryError>| {
            Registry::change(&state, 10, change).map(|(registry, ())| registry)
        };
        let added = change(&|r| r.add("ward-3", Role::Terminal, credential(1, 100), 10)).unwrap();
        assert_eq!(Registry::read(&state).unwrap(), added);
        let refused = change(&|r| r.add("ward-3", Role::Operator, credential(2, 100), 10));
        assert!(refused.unwrap_err().to_string().contains("revoke it first"));
        assert_eq!(Registry::read(&state).unwrap(), added);
        change(&|r| r.revoke("ward-3", None, 10).map(drop)).unwrap();
        assert!(change(&|r| r.revoke("ward-3", None, 11).map(drop)).is_err());
        assert!(change(&|r| r.revoke("ward-4", None, 11).map(drop)).is_err());
        let changed = change(&|r| r.add("ward-3", Role::Operator, credential(2, 100), 10)).unwrap();
        assert_eq!(changed.enrolled[0].role, Role::Operator);
        assert_eq!(changed.enrolled[0].credentials.len(), 2);
    }

    #[test]
    fn a_file_that_is_no_registry_is_named_and_never_taken_for_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        std::fs::create_dir_all(dir.path().join("access")).unwrap();
        let twice = r#"{"format":1,"enrolled":[{"name":"a","role":"terminal","credentials":[]},{"name":"a","role":"operator","credentials":[]}]}"#;
        for bad in ["", "{}", "{\"format\":2,\"enrolled\":[]}", twice, &twice.replace("\"a\"", "\"../a\"")] {
            std::fs::write(state.registry(), bad).unwrap();
            let error = Registry::read(&state).unwrap_err();
            assert!(matches!(error, RegistryError::Damaged { .. }), "{bad}: {error}");
        }
    }

    #[test]
    fn a_registry_stays_bounded_and_forgets_nobody_who_counts() {
        let mut registry = Registry::default();
        let many = |n: usize, expires_s| (0..n).map(move |_| credential(0, expires_s));
        let dead: Vec<_> = many(MAX_CREDENTIALS, 5)
            .enumerate()
            .map(|(n, c)| Credential { issued_s: n as u64, ..c })
            .collect();
        registry.enrolled.push(Enrolled { name: "a".into(), role: Role::Terminal, credentials: dead });
        let alive: Vec<_> = many(3, 100).collect();
        registry.enrolled.push(Enrolled { name: "b".into(), role: Role::Terminal, credentials: alive });
        registry.thin_out(10);
        let left: Vec<_> = registry.enrolled.iter().map(|one| one.credentials.len()).collect();
        assert_eq!(left, [MAX_CREDENTIALS - 3, 3]);
    }
}
