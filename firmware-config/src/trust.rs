//! The trust document: which keys may do what, how many of them have to agree, and until when.
//!
//! The idea is the root role of The Update Framework (specification 1.0, sections 5.3 and 6.1): a new document counts
//! where enough root keys of the one before and enough of its own have signed it, and versions go up by one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::{Date, format_description::well_known::Iso8601};

use crate::manifest::{MAX_SIGNATURES, Signature, is_hex, key_id};

/// The format that this code writes and reads.
pub const FORMAT: u32 = 1;
/// Largest trust document with its signatures, in bytes.
pub const MAX_TRUST_BYTES: usize = 64 << 10;
/// Most keys in one document.
pub const MAX_KEYS: usize = 64;
/// What a signature covers is this, then the 32 bytes of the digest.
pub const SIGNING_CONTEXT: &[u8] = b"locus-trust-v1\0";

/// Why a trust document cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustFileError {
    /// Larger than any.
    #[error("got a trust document of {got} bytes, expected at most {MAX_TRUST_BYTES}")]
    TooLarge {
        /// Its size.
        got: usize,
    },
    /// Not JSON of this shape.
    #[error("got a trust document that cannot be read: {0}; make it with `locus trust create`")]
    Json(#[from] serde_json::Error),
    /// A field that contradicts what the format says.
    #[error("got {field} = {got} in a trust document, expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds.
        got: String,
        /// What it may hold.
        expected: String,
    },
}

/// Keys that may do something together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Ids of the keys.
    pub keys: Vec<String>,
    /// How many of them have to sign.
    pub threshold: u32,
}

/// Which keys may do what. The third role, the device, is in no document: each box has a key of its own, which
/// signs its journal and its audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustDocument {
    /// Format of this document.
    pub format: u32,
    /// 1 for the first; each next one is one higher.
    pub version: u64,
    /// Day on which it was made, `YYYY-MM-DD` in UTC. A clock that reads an earlier one is wrong.
    pub issued: String,
    /// Last day on which bundles are taken under it, `YYYY-MM-DD` in UTC.
    pub expires: String,
    /// Every Ed25519 public key by its id: 32 bytes in hex.
    pub keys: BTreeMap<String, String>,
    /// Who may replace this document.
    pub root: Role,
    /// Who may sign bundles.
    pub signing: Role,
    /// Ids of keys whose signatures no longer count, here and in every later document.
    pub revoked: Vec<String>,
}

/// A trust document and who signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedTrust {
    /// The document.
    pub trust: TrustDocument,
    /// At most [`MAX_SIGNATURES`], one by each key, over the document's digest.
    pub signatures: Vec<Signature>,
}

/// A day as `YYYY-MM-DD`, in no other form.
pub fn day(text: &str) -> Option<Date> {
    Date::parse(text, &Iso8601::DATE).ok().filter(|day| day.to_string() == text)
}

fn wrong<T>(
    field: &'static str,
    got: impl ToString,
    expected: impl Into<String>,
) -> Result<T, TrustFileError> {
    let got = got.to_string().chars().take(80).collect();
    Err(TrustFileError::Field { field, got, expected: expected.into() })
}

impl TrustDocument {
    /// The bytes that are signed: the same every time, whatever the file looked like.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("texts and whole numbers serialise");
        bytes.push(b'\n');
        bytes
    }

    /// SHA-256 of [`TrustDocument::to_json`].
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_json()).into()
    }

    /// What a signature covers.
    pub fn signing_message(&self) -> Vec<u8> {
        [SIGNING_CONTEXT, &self.digest()].concat()
    }

    /// The 32 bytes of a key.
    pub fn key(&self, id: &str) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(self.keys.get(id)?, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Whether every field is what it may be. Whether the keys are points of the curve is for their library to say.
    ///
    /// # Errors
    /// [`TrustFileError::Field`].
    pub fn check(&self) -> Result<(), TrustFileError> {
        if self.format != FORMAT {
            return wrong("format", self.format, format!("{FORMAT}; use the version of Locus that made it"));
        }
        if self.version == 0 {
            return wrong("version", 0, "1 or more");
        }
        let (Some(issued), Some(expires)) = (day(&self.issued), day(&self.expires)) else {
            let days = format!("{} and {}", self.issued, self.expires);
            return wrong("issued and expires", days, "two days, YYYY-MM-DD");
        };
        if expires < issued {
            return wrong("expires", &self.expires, format!("{} or later", self.issued));
        }
        if self.keys.len() > MAX_KEYS || self.revoked.len() > MAX_KEYS {
            return wrong("keys", self.keys.len(), format!("at most {MAX_KEYS}, and as many revoked ones"));
        }
        for (id, key) in &self.keys {
            let named = is_hex(key, 64) && self.key(id).is_some_and(|bytes| key_id(&bytes) == *id);
            if !named {
                return wrong(
                    "keys",
                    id,
                    "the id of its key: the first 16 hex digits of the SHA-256 of its 32 bytes",
                );
            }
        }
        for id in &self.revoked {
            if !is_hex(id, 16) {
                return wrong("revoked", id, "ids of 16 hex digits in lower case");
            }
        }
        self.check_role("root", &self.root)?;
        self.check_role("signing", &self.signing)
    }

    fn check_role(&self, name: &'static str, role: &Role) -> Result<(), TrustFileError> {
        if role.keys.iter().collect::<BTreeSet<_>>().len() != role.keys.len() {
            return wrong(name, "a key twice", "each key once");
        }
        if let Some(id) = role.keys.iter().find(|id| !self.keys.contains_key(*id)) {
            return wrong(name, id, "keys that are listed under keys");
        }
        if let Some(id) = role.keys.iter().find(|id| self.revoked.contains(id)) {
            return wrong(name, id, "keys that are not revoked");
        }
        let most = role.keys.len().min(MAX_SIGNATURES);
        if role.threshold == 0 || role.threshold as usize > most {
            return wrong(
                name,
                format!("a threshold of {}", role.threshold),
                format!("1 to {most}, as many as it has keys"),
            );
        }
        Ok(())
    }
}

impl SignedTrust {
    /// Reads and checks a file; whose signatures are good is not looked at.
    ///
    /// # Errors
    /// [`TrustFileError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, TrustFileError> {
        if bytes.len() > MAX_TRUST_BYTES {
            return Err(TrustFileError::TooLarge { got: bytes.len() });
        }
        let signed: Self = serde_json::from_slice(bytes)?;
        signed.trust.check()?;
        let ids: BTreeSet<&String> = signed.signatures.iter().map(|one| &one.key_id).collect();
        if ids.len() != signed.signatures.len() || ids.len() > MAX_SIGNATURES {
            return wrong(
                "signatures",
                signed.signatures.len(),
                format!("at most {MAX_SIGNATURES}, one by each key"),
            );
        }
        Ok(signed)
    }

    /// The bytes of the file.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("texts and whole numbers serialise");
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> TrustDocument {
        let keys: BTreeMap<_, _> = (1..=3_u8).map(|n| (key_id(&[n; 32]), hex::encode([n; 32]))).collect();
        let ids: Vec<String> = keys.keys().cloned().collect();
        TrustDocument {
            format: FORMAT,
            version: 1,
            issued: "2026-11-26".into(),
            expires: "2027-11-26".into(),
            root: Role { keys: ids[..2].to_vec(), threshold: 2 },
            signing: Role { keys: ids[2..].to_vec(), threshold: 1 },
            keys,
            revoked: vec![],
        }
    }

    #[test]
    fn what_is_signed_does_not_depend_on_how_the_file_is_written() {
        let trust = document();
        let signed = SignedTrust { trust: trust.clone(), signatures: vec![] };
        let compact = serde_json::to_vec(&signed).unwrap();
        assert_ne!(compact, signed.to_json());
        for bytes in [compact, signed.to_json()] {
            assert_eq!(
                SignedTrust::from_json(&bytes).unwrap().trust.signing_message(),
                trust.signing_message()
            );
        }
        let later = TrustDocument { version: 2, ..trust.clone() };
        assert_ne!(later.digest(), trust.digest());
    }

    #[test]
    fn a_document_that_contradicts_itself_is_refused() {
        type Change = fn(&mut TrustDocument);
        let good = document();
        assert!(good.check().is_ok());
        let cases: [(&str, Change); 14] = [
            ("format", |d| d.format = 2),
            ("version", |d| d.version = 0),
            ("issued", |d| d.issued = "26.11.2026".into()),
            ("issued", |d| d.expires = "2027-02-30".into()),
            ("issued", |d| d.expires = "2027-W05-1".into()),
            ("expires", |d| d.expires = "2026-11-25".into()),
            ("keys", |d| d.keys.values_mut().for_each(|key| *key = key.to_uppercase().replace('0', "A"))),
            ("keys", |d| {
                d.keys.insert("0".repeat(16), "00".repeat(32));
            }),
            ("revoked", |d| d.revoked.push("x".into())),
            ("signing", |d| d.revoked.push(d.signing.keys[0].clone())),
            ("root", |d| d.root.threshold = 3),
            ("root", |d| d.root.threshold = 0),
            ("root", |d| d.root.keys[1] = d.root.keys[0].clone()),
            ("signing", |d| d.signing.keys.push("0".repeat(16))),
        ];
        for (named, change) in cases {
            let mut bad = good.clone();
            change(&mut bad);
            let error = bad.check().unwrap_err().to_string();
            assert!(error.contains(named), "{named}: {error}");
        }
        let twice = Signature { key_id: "a".into(), algorithm: "ed25519".into(), signature: String::new() };
        let signed = SignedTrust { trust: good, signatures: vec![twice.clone(), twice] };
        assert!(SignedTrust::from_json(&signed.to_json()).is_err());
        assert!(SignedTrust::from_json(&vec![b' '; MAX_TRUST_BYTES + 1]).is_err());
        assert!(SignedTrust::from_json(b"{\"trust\": {}, \"signatures\": []}").is_err());
    }
}
