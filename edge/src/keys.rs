//! The keys of a box, as small text files.
//!
//! | key | file | on the box |
//! |---|---|---|
//! | device, Ed25519 | PKCS#8 and SPKI PEM | private and public: signs the journal |
//! | recipient, X25519 | one line `locus-recipient-x25519-…` | the public half only: results are sealed to it |
//! | identity | one line `LOCUS-IDENTITY-X25519-…` | never: whoever holds it reads the results |
//! | index, HMAC-SHA256 | one line `LOCUS-INDEX-…` | private: hashes ids, so that none is stored |
//!
//! The one-line keys are 64 hexadecimal digits and 8 of their SHA-256, because a mistyped recipient would lock
//! results away for ever. Lines that start with `#` are comments.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use ed25519_dalek::{
    SigningKey, VerifyingKey,
    pkcs8::{
        DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, spki::der::pem::LineEnding,
    },
};
use hmac::{Hmac, KeyInit, Mac};
use hpke::{Deserializable, Kem as _, Serializable};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::vfs::{self, Access, Vfs, folder_of};

pub(crate) type Kem = hpke::kem::X25519HkdfSha256;

const RECIPIENT: &str = "locus-recipient-x25519-";
const IDENTITY: &str = "LOCUS-IDENTITY-X25519-";
const INDEX: &str = "LOCUS-INDEX-";
/// Largest key file, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// Keys that cannot be made, read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A file that cannot be read or written.
    #[error("key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A text that is not the expected key.
    #[error("{place} holds no {expected}: {detail}")]
    Format {
        /// File, or "text".
        place: String,
        /// What was expected.
        expected: &'static str,
        /// What is wrong; never the key.
        detail: &'static str,
    },
    /// A private key that others can read.
    #[error("{path} can be read by others: run `chmod 600` on it and consider the key known")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The public half of the device's key is another key's.
    #[error(
        "{public} is not the public half of {private}: put back the one that belongs to it, or remove {public} and it is written again"
    )]
    Mismatch {
        /// The private key.
        private: PathBuf,
        /// What is beside it.
        public: PathBuf,
    },
    /// The machine gives no random numbers.
    #[error("no random numbers: {detail}")]
    Random {
        /// Why.
        detail: String,
    },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::Io { path, source }
}

/// Fills a secret with random bytes.
pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, KeyError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|error| KeyError::Random { detail: error.to_string() })?;
    Ok(bytes)
}

/// The first 16 hexadecimal digits of the SHA-256 of a public key.
pub fn key_id(public: &[u8; 32]) -> String {
    hex::encode(&Sha256::digest(public)[..8])
}

fn line_of(prefix: &str, key: &[u8; 32]) -> Zeroizing<String> {
    let check = Zeroizing::new(hex::encode(&Sha256::digest(key)[..4]));
    Zeroizing::new(format!("{prefix}{}{}", &*Zeroizing::new(hex::encode(key)), &*check))
}

fn parse_line(line: &str, prefix: &'static str, place: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let wrong = |detail| KeyError::Format { place: place.to_owned(), expected: prefix, detail };
    let digits = line.trim().strip_prefix(prefix).ok_or_else(|| wrong("it starts otherwise"))?;
    let mut bytes = Zeroizing::new([0; 36]);
    hex::decode_to_slice(digits, &mut *bytes).map_err(|_| wrong("not 72 hexadecimal digits after it"))?;
    let (key, check) = bytes.split_at(32);
    if &Sha256::digest(key)[..4] != check {
        return Err(wrong("its check digits are wrong: a digit was mistyped"));
    }
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(key);
    Ok(secret)
}

fn key_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn read_text(vfs: &dyn Vfs, path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let bytes = vfs.read(path, MAX_FILE).map_err(io_at(path))?;
    let text = String::from_utf8(bytes).map_err(|_| KeyError::Format {
        place: path.display().to_string(),
        expected: "key",
        detail: "it is not text",
    })?;
    Ok(Zeroizing::new(text))
}

fn read_private(vfs: &dyn Vfs, path: &Path) -> Result<Zeroizing<String>, KeyError> {
    if !vfs.is_private(path).map_err(io_at(path))? {
        return Err(KeyError::Exposed { path: path.to_owned() });
    }
    read_text(vfs, path)
}

fn write_new(vfs: &dyn Vfs, path: &Path, text: &str, access: Access) -> Result<(), KeyError> {
    vfs::write_new(vfs, path, text.as_bytes(), access).map_err(io_at(path))
}

/// Whom results are sealed to: a public key.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    key: [u8; 32],
}

impl Recipient {
    /// Reads one `locus-recipient-x25519-…` line.
    ///
    /// # Errors
    /// [`KeyError::Format`].
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        Self::parse_at(line, "text")
    }

    fn parse_at(line: &str, place: &str) -> Result<Self, KeyError> {
        let key = *parse_line(line, RECIPIENT, place)?;
        let weak =
            KeyError::Format { place: place.to_owned(), expected: RECIPIENT, detail: "an unusable key" };
        // A key of small order seals to everybody; encapsulation would refuse it later, at the first record.
        let public = <Kem as hpke::Kem>::PublicKey::from_bytes(&key).map_err(|_| weak)?;
        let mode = hpke::OpModeS::Base;
        hpke::setup_sender::<hpke::aead::ChaCha20Poly1305, hpke::kdf::HkdfSha256, Kem>(
            &mode, &public, b"check",
        )
        .map_err(|_| KeyError::Format {
            place: place.to_owned(),
            expected: RECIPIENT,
            detail: "a key of small order, which seals to everybody",
        })?;
        Ok(Self { key })
    }

    /// Reads every recipient of a file, one a line.
    ///
    /// # Errors
    /// A file that cannot be read, holds none, or a line that is none.
    pub fn read_all(vfs: &dyn Vfs, path: &Path) -> Result<Vec<Self>, KeyError> {
        let text = read_text(vfs, path)?;
        let place = path.display().to_string();
        let all: Vec<Self> =
            key_lines(&text).map(|line| Self::parse_at(line, &place)).collect::<Result<_, _>>()?;
        if all.is_empty() {
            return Err(KeyError::Format { place, expected: RECIPIENT, detail: "no key line in it" });
        }
        Ok(all)
    }

    /// The 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.key
    }

    /// The first 16 hexadecimal digits of the SHA-256 of the key.
    pub fn id(&self) -> String {
        key_id(&self.key)
    }

    pub(crate) fn public(&self) -> <Kem as hpke::Kem>::PublicKey {
        <Kem as hpke::Kem>::PublicKey::from_bytes(&self.key).expect("checked when it was parsed")
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&line_of(RECIPIENT, &self.key))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.id())
    }
}

/// Who reads results: a private key. Never on the box.
pub struct Identity {
    key: Zeroizing<[u8; 32]>,
}

impl Identity {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        let seed = random::<32>()?;
        let (private, _) = Kem::derive_keypair(&*seed);
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(&private.to_bytes());
        Ok(Self { key })
    }

    /// Reads the identity of a file that only its owner can read.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(vfs: &dyn Vfs, path: &Path) -> Result<Self, KeyError> {
        let text = read_private(vfs, path)?;
        let place = path.display().to_string();
        let line = one_line(&text, IDENTITY, &place)?;
        Ok(Self { key: parse_line(line, IDENTITY, &place)? })
    }

    /// Writes the identity (0600) and the recipient. Never overwrites.
    ///
    /// # Errors
    /// [`KeyError::Io`].
    pub fn write_pair(&self, vfs: &dyn Vfs, private: &Path, public: &Path) -> Result<(), KeyError> {
        let recipient = self.recipient();
        let text = Zeroizing::new(format!(
            "# Opens the journals that are sealed to the recipient below. Keep it off the box.\n# {recipient}\n{}\n",
            &*line_of(IDENTITY, &self.key)
        ));
        write_new(vfs, private, &text, Access::Private)?;
        write_new(vfs, public, &format!("{recipient}\n"), Access::Public)
    }

    /// The public half.
    pub fn recipient(&self) -> Recipient {
        let mut key = [0; 32];
        key.copy_from_slice(&Kem::sk_to_pk(&self.private()).to_bytes());
        Recipient { key }
    }

    pub(crate) fn private(&self) -> <Kem as hpke::Kem>::PrivateKey {
        <Kem as hpke::Kem>::PrivateKey::from_bytes(&*self.key).expect("32 bytes are a private key")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(of {:?})", self.recipient())
    }
}

fn one_line<'a>(text: &'a str, expected: &'static str, place: &str) -> Result<&'a str, KeyError> {
    let wrong = |detail| KeyError::Format { place: place.to_owned(), expected, detail };
    let mut lines = key_lines(text);
    let line = lines.next().ok_or_else(|| wrong("no key line in it"))?;
    if lines.next().is_some() {
        return Err(wrong("more than one key line in it"));
    }
    Ok(line)
}

/// Hashes ids and bodies with a key of the box, so that the journal recognises a repeat without keeping the id.
/// Whoever steals the box with this key can test a guess of an id or a subject; of a body only once the id is known.
#[derive(Clone)]
pub struct IndexKey {
    key: Zeroizing<[u8; 32]>,
}

impl IndexKey {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self { key: random()? })
    }

    /// Reads the key of a file, or makes the file (0600).
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn load_or_create(vfs: &dyn Vfs, path: &Path) -> Result<Self, KeyError> {
        if vfs.exists(path).map_err(io_at(path))? {
            let text = read_private(vfs, path)?;
            let place = path.display().to_string();
            return Ok(Self { key: parse_line(one_line(&text, INDEX, &place)?, INDEX, &place)? });
        }
        let key = Self::generate()?;
        vfs.create_dir_all(folder_of(path)).map_err(io_at(path))?;
        let text = Zeroizing::new(format!("{}\n", &*line_of(INDEX, &key.key)));
        write_new(vfs, path, &text, Access::Private)?;
        Ok(key)
    }

    fn hash(&self, domain: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key).expect("HMAC takes keys of any length");
        mac.update(domain);
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Hash of a request's terminal and id.
    pub fn request(&self, terminal: &str, id: &str) -> [u8; 32] {
        self.hash(b"locus-request-v1\0", &[terminal.as_bytes(), id.as_bytes()])
    }

    /// Hash of what was asked under an id, as bytes that are the same for the same question. Bound to the id: the
    /// same question under two ids has nothing in common.
    pub fn body(&self, terminal: &str, id: &str, body: &[u8]) -> [u8; 32] {
        self.hash(b"locus-body-v1\0", &[terminal.as_bytes(), id.as_bytes(), body])
    }

    /// Hash of who asked: a recall says which terminals had answers of a model, and who has the list of terminals and
    /// this key names them.
    pub fn terminal(&self, terminal: &str) -> [u8; 8] {
        let hash = self.hash(b"locus-terminal-v1\0", &[terminal.as_bytes()]);
        *hash.first_chunk().expect("32 bytes have eight")
    }

    /// Tag of a subject within one segment of one journal: segments cannot be linked by it.
    pub(crate) fn subject(&self, journal: &[u8; 16], segment: u64, subject: &str) -> [u8; 32] {
        self.hash(b"locus-subject-v1\0", &[journal, &segment.to_le_bytes(), subject.as_bytes()])
    }
}

impl fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexKey(secret)")
    }
}

/// Reads the device's signing key, or makes `path` (0600, PKCS#8 PEM) and `path.pub` (SPKI PEM).
///
/// # Errors
/// [`KeyError`]; [`KeyError::Mismatch`] where the two are not one pair: whoever verified with the public one
/// would call every new record forged.
pub fn load_or_create_device_key(vfs: &dyn Vfs, path: &Path) -> Result<SigningKey, KeyError> {
    let wrong = || KeyError::Format {
        place: path.display().to_string(),
        expected: "Ed25519 private key (PKCS#8 PEM)",
        detail: "it does not parse",
    };
    if vfs.exists(path).map_err(io_at(path))? {
        let key = SigningKey::from_pkcs8_pem(&read_private(vfs, path)?).map_err(|_| wrong())?;
        write_device_public(vfs, path, &key)?;
        return Ok(key);
    }
    let key = SigningKey::from_bytes(&*random::<32>()?);
    vfs.create_dir_all(folder_of(path)).map_err(io_at(path))?;
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|_| wrong())?;
    write_new(vfs, path, &pem, Access::Private)?;
    write_device_public(vfs, path, &key)?;
    Ok(key)
}

fn write_device_public(vfs: &dyn Vfs, path: &Path, key: &SigningKey) -> Result<(), KeyError> {
    let public = PathBuf::from(format!("{}.pub", path.display()));
    if vfs.exists(&public).map_err(io_at(&public))? {
        let same = read_device_public(vfs, &public)? == key.verifying_key();
        return same.then_some(()).ok_or_else(|| KeyError::Mismatch { private: path.to_owned(), public });
    }
    let pem = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|_| KeyError::Format {
        place: public.display().to_string(),
        expected: "Ed25519 public key",
        detail: "it cannot be written as PEM",
    })?;
    write_new(vfs, &public, &pem, Access::Public)
}

/// Reads a device's public key (SPKI PEM).
///
/// # Errors
/// [`KeyError`].
pub fn read_device_public(vfs: &dyn Vfs, path: &Path) -> Result<VerifyingKey, KeyError> {
    let text = read_text(vfs, path)?;
    let wrong = |detail| KeyError::Format {
        place: path.display().to_string(),
        expected: "Ed25519 public key (SPKI PEM)",
        detail,
    };
    let key = VerifyingKey::from_public_key_pem(text.trim()).map_err(|_| wrong("it does not parse"))?;
    if key.is_weak() {
        return Err(wrong("a key of small order, which verifies anything"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests;
