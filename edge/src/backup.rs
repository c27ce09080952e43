//! What makes a box this box, sealed to recipients: keys, slot record, trust, audit trail, registries, configuration.
//!
//! The file is a line that names it, a line of JSON, a line with the device's signature over both and the rest, and a
//! tar archive under ChaCha20-Poly1305, whose key is sealed to every recipient by HPKE. Results are not in it:
//! `locusctl journal offload` copies those. Neither are bundles: they are flashed again.

use std::{
    io::{Read as _, Write as _},
    path::{Component, Path, PathBuf},
};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    journal::{
        JournalError, SealedKey,
        seal::{Purpose, decrypt, encrypt, new_key, open_for, seal_for},
    },
    keys::{Identity, KeyError, Recipient, key_id},
    state::StateDir,
    vfs::{Access, OsVfs, Vfs as _, folder_of, write_new},
};

const MAGIC: &str = "LOCUS-BACKUP-1";
const INFO: &[u8] = b"locus-backup-v1\0";
/// Longest line in front of the archive, in bytes.
const MAX_LINE: usize = 256 << 10;
/// Largest archive, in bytes: beside the bundles a box has a few hundred kilobytes.
const MAX_ARCHIVE: u64 = 64 << 20;
/// Folders of the state that are not in a backup: results, what a start makes anew, engines of this device, what is
/// flashed again.
const LEFT_OUT: [&str; 5] = ["journal", "run", "engines", "slots/bundles", "packs/bundles"];

/// Why there is no backup, or none is put back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody to seal to.
    #[error("a backup holds the keys of the box: name whom it is sealed to, with --recipient")]
    NoRecipient,
    /// Too much.
    #[error("got {got} bytes of state, expected at most {limit}: something else lies in the state folder")]
    TooLarge {
        /// Bytes.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// Not a backup, or not whole.
    #[error("{path} is no whole backup: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// Another device's.
    #[error("the backup is of the device {got}, expected {expected}")]
    OtherDevice {
        /// Id of its key.
        got: String,
        /// Id of the key that was named.
        expected: String,
    },
    /// Sealed to others.
    #[error("the identity {identity} does not open the backup; it is sealed to {}", .recipients.join(", "))]
    OtherRecipient {
        /// Id of its public half.
        identity: String,
        /// Whom it is sealed to.
        recipients: Vec<String>,
    },
    /// There is a box already.
    #[error("{path} is there and differs: a backup is put back into an empty state folder only")]
    Occupied {
        /// The file.
        path: PathBuf,
    },
    /// Encryption.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Keys.
    #[error(transparent)]
    Key(#[from] KeyError),
}

fn io_at(path: &Path) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { path, source }
}

/// What a backup says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Name of the box.
    pub r#box: String,
    /// Public key of the device, hexadecimal.
    pub device: String,
    /// When, milliseconds since 1970.
    pub unix_ms: u64,
    pub(crate) recipients: Vec<SealedKey>,
}

/// What is in it, or was put back.
#[derive(Debug, Clone, Serialize)]
pub struct Contents {
    /// Name of the box.
    pub r#box: String,
    /// Id of the device's public key.
    pub device: String,
    /// When it was made, milliseconds since 1970.
    pub unix_ms: u64,
    /// Ids of those who open it.
    pub recipients: Vec<String>,
    /// Files, by their names in the archive.
    pub files: Vec<String>,
    /// Those of them that only their owner could read: secrets.
    pub secrets: Vec<String>,
}

fn files_below(root: &Path, folder: &Path, out: &mut Vec<PathBuf>) -> Result<(), BackupError> {
    let left_out = LEFT_OUT.iter().any(|name| folder == root.join(name));
    if left_out {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).map_err(io_at(folder))? {
        let entry = entry.map_err(io_at(folder))?;
        let kind = entry.file_type().map_err(io_at(folder))?;
        if kind.is_dir() {
            files_below(root, &entry.path(), out)?;
        } else if kind.is_file() && entry.file_name() != "lock" {
            out.push(entry.path());
        }
    }
    out.sort();
    Ok(())
}

/// Makes a backup: its bytes, and what is in it. `extra` are files beside the configuration, by their names there.
///
/// # Errors
/// [`BackupError`].
pub fn make(
    state: &StateDir,
    box_name: &str,
    extra: &[(PathBuf, PathBuf)],
    recipients: &[Recipient],
    device_key: &SigningKey,
    unix_ms: u64,
) -> Result<(Vec<u8>, Contents), BackupError> {
    if recipients.is_empty() {
        return Err(BackupError::NoRecipient);
    }
    let root = state.root();
    let mut found = Vec::new();
    files_below(root, root, &mut found)?;
    let mut files: Vec<(PathBuf, PathBuf)> = found
        .into_iter()
        .filter_map(|path| Some((Path::new("state").join(path.strip_prefix(root).ok()?), path)))
        .collect();
    files.extend(extra.iter().map(|(name, path)| (Path::new("config").join(name), path.clone())));
    let mut sizes = 0;
    for (_, path) in &files {
        sizes += OsVfs.len(path).map_err(io_at(path))?;
    }
    if sizes > MAX_ARCHIVE {
        return Err(BackupError::TooLarge { got: sizes, limit: MAX_ARCHIVE });
    }
    // Room for all of it: a reallocation would leave keys behind.
    let room = sizes as usize + 2_048 * (files.len() + 2);
    let mut archive = Zeroizing::new(Vec::with_capacity(room));
    let (mut names, mut secrets) = (Vec::new(), Vec::new());
    {
        let mut tar = tar::Builder::new(&mut *archive);
        for (name, path) in &files {
            let bytes = Zeroizing::new(OsVfs.read(path, MAX_ARCHIVE).map_err(io_at(path))?);
            let private = OsVfs.is_private(path).map_err(io_at(path))?;
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(if private { 0o600 } else { 0o640 });
            tar.append_data(&mut header, name, &bytes[..]).map_err(io_at(path))?;
            let shown = name.display().to_string();
            if private {
                secrets.push(shown.clone());
            }
            names.push(shown);
        }
        tar.finish().map_err(io_at(root))?;
    }
    let key = new_key()?;
    let sealed =
        recipients.iter().map(|recipient| seal_for(recipient, INFO, &key)).collect::<Result<_, _>>()?;
    let device = device_key.verifying_key();
    let head = Head {
        r#box: box_name.to_owned(),
        device: hex::encode(device.as_bytes()),
        unix_ms,
        recipients: sealed,
    };
    let json = serde_json::to_string(&head).expect("texts and whole numbers serialise");
    let ciphertext = encrypt(&key, Purpose::Record, 0, &archive, json.as_bytes())?;
    let signature = hex::encode(device_key.sign(&message(&json, &ciphertext)).to_bytes());
    let mut out = Vec::with_capacity(ciphertext.len() + json.len() + 256);
    let lines = write!(out, "{MAGIC}\n{json}\n{signature}\n");
    lines.map_err(io_at(root))?;
    out.extend(ciphertext);
    Ok((out, contents(&head, device.as_bytes(), names, secrets)))
}

fn message(json: &str, ciphertext: &[u8]) -> Vec<u8> {
    [INFO, &Sha256::digest(json.as_bytes()), &Sha256::digest(ciphertext)].concat()
}

fn contents(head: &Head, device: &[u8; 32], files: Vec<String>, secrets: Vec<String>) -> Contents {
    Contents {
        r#box: head.r#box.clone(),
        device: key_id(device),
        unix_ms: head.unix_ms,
        recipients: head.recipients.iter().map(|sealed| sealed.recipient.clone()).collect(),
        files,
        secrets,
    }
}

/// Puts a backup back: the state into an empty folder, the rest beside the configuration. What is there already and
/// the same is left; the device's key comes last, so that a restore that was cut can be done again.
///
/// # Errors
/// [`BackupError`]; a file that is there and differs stays.
pub fn restore(
    path: &Path,
    identity: &Identity,
    device: Option<&VerifyingKey>,
    state: &StateDir,
    config_folder: &Path,
) -> Result<Contents, BackupError> {
    let wrong = |reason| BackupError::Format { path: path.to_owned(), reason };
    let bytes = OsVfs.read(path, MAX_ARCHIVE + (1 << 20)).map_err(io_at(path))?;
    let mut rest = &bytes[..];
    let mut line = || {
        let end = rest.iter().take(MAX_LINE).position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(&rest[..end]).ok()?;
        rest = &rest[end + 1..];
        Some(line)
    };
    if line() != Some(MAGIC) {
        return Err(wrong("it does not start as one"));
    }
    let json = line().ok_or_else(|| wrong("it has no head"))?;
    let signature = line().ok_or_else(|| wrong("it has no signature"))?;
    let head: Head = serde_json::from_str(json).map_err(|_| wrong("its head is not what it should be"))?;
    let (mut public, mut signed) = ([0; 32], [0; 64]);
    hex::decode_to_slice(&head.device, &mut public).map_err(|_| wrong("it names no device"))?;
    hex::decode_to_slice(signature, &mut signed).map_err(|_| wrong("it has no signature"))?;
    let own = VerifyingKey::from_bytes(&public).map_err(|_| wrong("it names no device"))?;
    if let Some(device) = device.filter(|device| **device != own) {
        let (got, expected) = (key_id(&public), key_id(device.as_bytes()));
        return Err(BackupError::OtherDevice { got, expected });
    }
    own.verify_strict(&message(json, rest), &Signature::from_bytes(&signed))
        .map_err(|_| wrong("its signature is not the device's"))?;
    let key = open_for(identity, INFO, &head.recipients).ok_or_else(|| BackupError::OtherRecipient {
        identity: identity.recipient().id(),
        recipients: head.recipients.iter().map(|sealed| sealed.recipient.clone()).collect(),
    })?;
    let archive = decrypt(&key, Purpose::Record, 0, rest, json.as_bytes())
        .ok_or_else(|| wrong("it does not open with its key"))?;
    let files = unpack(&archive, path)?;
    let (mut names, mut secrets) = (Vec::new(), Vec::new());
    let mut ordered: Vec<_> = files.iter().collect();
    ordered.sort_by_key(|file| file.name.ends_with("keys/device.key"));
    for file in ordered {
        let to = match (file.name.strip_prefix("state"), file.name.strip_prefix("config")) {
            (Ok(name), _) => state.root().join(name),
            (_, Ok(name)) => config_folder.join(name),
            _ => return Err(wrong("a file in it belongs nowhere")),
        };
        put(file, &to)?;
        let shown = file.name.display().to_string();
        if file.private {
            secrets.push(shown.clone());
        }
        names.push(shown);
    }
    Ok(contents(&head, &public, names, secrets))
}

/// A file of the archive.
struct Packed {
    name: PathBuf,
    private: bool,
    bytes: Zeroizing<Vec<u8>>,
}

fn unpack(archive: &[u8], path: &Path) -> Result<Vec<Packed>, BackupError> {
    let wrong = |reason| BackupError::Format { path: path.to_owned(), reason };
    let mut files = Vec::new();
    for entry in tar::Archive::new(archive).entries().map_err(io_at(path))? {
        let mut entry = entry.map_err(io_at(path))?;
        let name = entry.path().map_err(io_at(path))?.into_owned();
        let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
        if !entry.header().entry_type().is_file() || !plain {
            return Err(wrong("it holds something else than plain files in its folders"));
        }
        let private = entry.header().mode().map_err(io_at(path))? & 0o077 == 0;
        let size = entry.size().min(archive.len() as u64) as usize;
        let mut bytes = Zeroizing::new(Vec::with_capacity(size));
        entry.read_to_end(&mut bytes).map_err(io_at(path))?;
        files.push(Packed { name, private, bytes });
    }
    Ok(files)
}

fn put(file: &Packed, to: &Path) -> Result<(), BackupError> {
    if OsVfs.exists(to).map_err(io_at(to))? {
        let same = OsVfs.read(to, MAX_ARCHIVE).map_err(io_at(to))? == *file.bytes;
        return same.then_some(()).ok_or_else(|| BackupError::Occupied { path: to.to_owned() });
    }
    OsVfs.create_dir_all(folder_of(to)).map_err(io_at(to))?;
    let access = if file.private { Access::Private } else { Access::Group };
    write_new(&OsVfs, to, &file.bytes, access).map_err(io_at(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_opens_for_its_recipient_only_and_shows_every_change() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(&folder.path().join("state"));
        let device = crate::keys::load_or_create_device_key(&OsVfs, &state.device_key()).unwrap();
        for (name, private) in [("slots/record.0", false), ("journal/1.seg", false), ("registry/a", true)] {
            let path = state.root().join(name);
            OsVfs.create_dir_all(folder_of(&path)).unwrap();
            let access = if private { Access::Private } else { Access::Group };
            write_new(&OsVfs, &path, name.as_bytes(), access).unwrap();
        }
        let (hospital, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        assert!(matches!(make(&state, "b", &[], &[], &device, 5), Err(BackupError::NoRecipient)));
        let (bytes, made) = make(&state, "b", &[], &[hospital.recipient()], &device, 5).unwrap();
        assert_eq!(made.secrets, ["state/keys/device.key", "state/registry/a"]);
        assert!(!made.files.iter().any(|name| name.contains("journal")));
        let file = folder.path().join("backup");
        let back = StateDir::new(&folder.path().join("back"));
        let restore = |bytes: &[u8], identity: &Identity, device: &VerifyingKey| {
            std::fs::write(&file, bytes).unwrap();
            super::restore(&file, identity, Some(device), &back, folder.path())
        };
        let public = device.verifying_key();
        assert!(matches!(restore(&bytes, &other, &public), Err(BackupError::OtherRecipient { .. })));
        let stranger = SigningKey::from_bytes(&[9; 32]).verifying_key();
        assert!(matches!(restore(&bytes, &hospital, &stranger), Err(BackupError::OtherDevice { .. })));
        for at in (0..bytes.len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(restore(&changed, &hospital, &public).is_err(), "byte {at}");
            assert!(restore(&bytes[..at], &hospital, &public).is_err(), "cut at {at}");
        }
        assert!(!back.root().exists(), "nothing of a bad backup is put back");
        restore(&bytes, &hospital, &public).unwrap();
        restore(&bytes, &hospital, &public).unwrap();
        assert_eq!(std::fs::read(back.root().join("registry/a")).unwrap(), b"registry/a");
        assert!(OsVfs.is_private(&back.device_key()).unwrap());
        std::fs::write(back.root().join("slots/record.0"), "other").unwrap();
        assert!(matches!(restore(&bytes, &hospital, &public), Err(BackupError::Occupied { .. })));
    }
}
