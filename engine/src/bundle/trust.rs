//! Whose bundles this box runs: Ed25519 public keys and the check of `signatures.json`.
//!
//! The message is `locus-bundle-v1\0` and the 32 bytes of the digest, verified strictly (RFC 8032 with the
//! small-order and malleability checks of ed25519-dalek's `verify_strict`).

use std::sync::Arc;

use ed25519_dalek::pkcs8::DecodePublicKey;
use ed25519_dalek::{Signature, VerifyingKey};
use locus_firmware_config::manifest::{
    MAX_SIGNATURES, Signature as Entry, Signatures, is_hex, key_id, signing_message,
};
use locus_firmware_config::trust::TrustFileError;

use super::policy::Policy;

/// The only algorithm of format 1.
const ALGORITHM: &str = "ed25519";

/// Why a bundle is not trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A signature is required and there is none.
    #[error(
        "the bundle is unsigned, expected a signature by one of: {expected}; sign it with `locus bundle sign`"
    )]
    Unsigned {
        /// Ids of the trusted keys.
        expected: String,
    },
    /// A signature is required and no key is trusted.
    #[error("no key is trusted on this box; add the signer's public key to its configuration")]
    NoKeys,
    /// `signatures.json` does not parse.
    #[error("signatures.json is not valid ({detail}); sign the bundle again with `locus bundle sign`")]
    Malformed {
        /// What is wrong.
        detail: String,
    },
    /// Nobody trusted signed it.
    #[error("signed by {got}, expected one of: {expected}; ask the sender, or trust the signer's public key")]
    UnknownSigner {
        /// Key ids that signed.
        got: String,
        /// Key ids that are trusted.
        expected: String,
    },
    /// A trusted key's signature does not fit this manifest.
    #[error(
        "the signature by key {key_id} does not fit this manifest; the bundle was altered: do not flash it"
    )]
    Invalid {
        /// The key whose signature is wrong.
        key_id: String,
    },
    /// Trusted keys signed it, too few of them.
    #[error("signed by {got} trusted keys, expected {expected} of: {keys}; have the others sign it too")]
    BelowThreshold {
        /// How many did.
        got: usize,
        /// How many have to.
        expected: usize,
        /// Ids of those that may.
        keys: String,
    },
    /// A key that is no longer trusted signed it, and too few others.
    #[error(
        "signed by key {key_id}, which is revoked, and by {got} trusted keys, expected {expected}; ask the sender for one signed anew"
    )]
    Revoked {
        /// The revoked key.
        key_id: String,
        /// How many trusted keys signed.
        got: usize,
        /// How many have to.
        expected: usize,
    },
    /// A trust document that contradicts itself.
    #[error(transparent)]
    File(#[from] TrustFileError),
    /// Too few root keys signed a trust document.
    #[error(
        "the trust document is signed by {got} of {whose} roots, expected {expected}; sign it with `locus trust sign`"
    )]
    Roots {
        /// Of which document the roots are.
        whose: &'static str,
        /// How many signed.
        got: usize,
        /// How many have to.
        expected: u32,
    },
    /// A trust document that does not follow the present one.
    #[error(
        "got version {got} of the trust document, expected {expected}: versions are taken one after the other"
    )]
    Version {
        /// Its version.
        got: u64,
        /// The next one.
        expected: u64,
    },
    /// A trust document that takes a revocation back.
    #[error("the trust document no longer revokes key {key_id}; make it with `locus trust create --after`")]
    Forgotten {
        /// The key.
        key_id: String,
    },
    /// The public key cannot be used.
    #[error("not an Ed25519 public key ({detail}), expected SPKI PEM as `locus keygen` writes it")]
    Key {
        /// What is wrong.
        detail: String,
    },
}

/// A public key that may sign bundles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    key: VerifyingKey,
    id: String,
}

impl TrustedKey {
    /// Reads the SPKI PEM of an Ed25519 public key.
    ///
    /// # Errors
    /// [`TrustError::Key`] when the text is no such key or the key is of small order.
    pub fn from_pem(pem: &str) -> Result<Self, TrustError> {
        let key = VerifyingKey::from_public_key_pem(pem.trim())
            .map_err(|error| TrustError::Key { detail: error.to_string() })?;
        Self::from_key(key)
    }

    /// Reads the 32 raw bytes of a public key.
    ///
    /// # Errors
    /// As [`TrustedKey::from_pem`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, TrustError> {
        let key =
            VerifyingKey::from_bytes(bytes).map_err(|error| TrustError::Key { detail: error.to_string() })?;
        Self::from_key(key)
    }

    fn from_key(key: VerifyingKey) -> Result<Self, TrustError> {
        if key.is_weak() {
            return Err(TrustError::Key { detail: "a key of small order, which verifies anything".into() });
        }
        Ok(Self { id: key_id(key.as_bytes()), key })
    }

    /// The 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The first 16 hexadecimal digits of the SHA-256 of the 32 key bytes.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Whose bundles are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Only bundles with a valid signature by one of these keys. An empty list opens nothing.
    Keys(Vec<TrustedKey>),
    /// Only bundles that as many signing keys have signed as a trust document asks for.
    Policy(Arc<Policy>),
    /// Any bundle whose parts fit its manifest: for the workbench, never for a box.
    AllowUnsigned,
}

/// Whose signatures a bundle has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signers {
    /// Trusted keys whose signatures were verified.
    pub(crate) verified: Vec<String>,
    /// Key ids whose signatures were not checked: anybody could have written them.
    pub(crate) claimed: Vec<String>,
}

impl Trust {
    /// Checks the signatures over `digest`: the trusted key that signed, where one is asked for, and the key ids
    /// that nobody checked.
    ///
    /// # Errors
    /// [`TrustError`] when a signature is required and missing, or one by a trusted key is wrong; and in both
    /// modes when `signatures.json` is there and does not parse.
    pub(crate) fn check(&self, digest: &[u8; 32], file: Option<&[u8]>) -> Result<Signers, TrustError> {
        let entries = file.map(parse).transpose()?;
        let (keys, expected, revoked): (&[TrustedKey], usize, &[String]) = match self {
            Self::AllowUnsigned => {
                let claimed = entries.into_iter().flatten().map(|(id, _)| id).collect();
                return Ok(Signers { verified: Vec::new(), claimed });
            }
            Self::Keys(keys) => (keys, 1, &[]),
            Self::Policy(policy) => {
                let document = policy.document();
                (policy.signing(), document.signing.threshold as usize, &document.revoked)
            }
        };
        if keys.is_empty() {
            return Err(TrustError::NoKeys);
        }
        let ids = || keys.iter().map(TrustedKey::id).collect::<Vec<_>>().join(", ");
        let Some(entries) = entries else { return Err(TrustError::Unsigned { expected: ids() }) };
        let verified = verified_by(&entries, keys, &signing_message(digest))?;
        let unchecked = |id: &String| !keys.iter().any(|key| key.id == *id);
        let claimed: Vec<String> = entries.into_iter().map(|(id, _)| id).filter(unchecked).collect();
        let got = verified.len();
        if got >= expected {
            return Ok(Signers { verified, claimed });
        }
        Err(match claimed.iter().find(|id| revoked.contains(id)) {
            Some(key_id) => TrustError::Revoked { key_id: key_id.clone(), got, expected },
            None if got == 0 => TrustError::UnknownSigner { got: claimed.join(", "), expected: ids() },
            None => TrustError::BelowThreshold { got, expected, keys: ids() },
        })
    }
}

/// Ids of the keys whose signatures over the message are good.
pub(super) fn verified_by(
    entries: &[(String, Signature)],
    keys: &[TrustedKey],
    message: &[u8],
) -> Result<Vec<String>, TrustError> {
    let mut verified = Vec::new();
    for (key_id, signature) in entries {
        let Some(trusted) = keys.iter().find(|key| key.id == *key_id) else { continue };
        // One wrong signature under a trusted name condemns the whole even beside right ones.
        if trusted.key.verify_strict(message, signature).is_err() {
            return Err(TrustError::Invalid { key_id: key_id.clone() });
        }
        verified.push(key_id.clone());
    }
    Ok(verified)
}

fn parse(file: &[u8]) -> Result<Vec<(String, Signature)>, TrustError> {
    let malformed = |detail: String| TrustError::Malformed { detail };
    let file: Signatures = serde_json::from_slice(file).map_err(|error| malformed(error.to_string()))?;
    if file.signatures.is_empty() || file.signatures.len() > MAX_SIGNATURES {
        return Err(malformed(format!(
            "{} signatures, expected 1 to {MAX_SIGNATURES}",
            file.signatures.len()
        )));
    }
    entries_of(file.signatures)
}

/// Signatures as numbers, each key's once.
pub(super) fn entries_of(signatures: Vec<Entry>) -> Result<Vec<(String, Signature)>, TrustError> {
    let malformed = |detail: String| TrustError::Malformed { detail };
    let mut entries: Vec<(String, Signature)> = Vec::new();
    for entry in signatures {
        if entry.algorithm != ALGORITHM {
            return Err(malformed(format!("an algorithm other than {ALGORITHM}")));
        }
        if !is_hex(&entry.key_id, 16) {
            return Err(malformed("a key_id that is not 16 hexadecimal digits in lower case".into()));
        }
        if entries.iter().any(|(id, _)| *id == entry.key_id) {
            return Err(malformed(format!("two signatures by key {}", entry.key_id)));
        }
        let mut bytes = [0; 64];
        if !is_hex(&entry.signature, 128) || hex::decode_to_slice(&entry.signature, &mut bytes).is_err() {
            return Err(malformed("a signature that is not 128 hexadecimal digits in lower case".into()));
        }
        entries.push((entry.key_id, Signature::from_bytes(&bytes)));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    fn signing_key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn trusted(key: &SigningKey) -> TrustedKey {
        TrustedKey::from_bytes(key.verifying_key().as_bytes()).unwrap()
    }

    fn signatures(keys: &[&SigningKey], digest: &[u8; 32]) -> Vec<u8> {
        let entries: Vec<_> = keys
            .iter()
            .map(|key| {
                serde_json::json!({
                    "key_id": trusted(key).id(),
                    "algorithm": "ed25519",
                    "signature": hex::encode(key.sign(&signing_message(digest)).to_bytes()),
                })
            })
            .collect();
        serde_json::to_vec(&serde_json::json!({ "signatures": entries })).unwrap()
    }

    #[test]
    fn only_a_trusted_key_over_this_digest_opens() {
        let (ours, theirs) = (signing_key(1), signing_key(2));
        let trust = Trust::Keys(vec![trusted(&ours)]);
        let digest = [7; 32];
        let good = signatures(&[&theirs, &ours], &digest);
        let signers = trust.check(&digest, Some(&good)).unwrap();
        assert_eq!(signers.verified, [trusted(&ours).id()]);
        assert_eq!(signers.claimed, [trusted(&theirs).id()], "theirs was not checked");
        assert!(matches!(trust.check(&[8; 32], Some(&good)), Err(TrustError::Invalid { .. })));
        assert!(matches!(trust.check(&digest, None), Err(TrustError::Unsigned { .. })));
        let foreign = signatures(&[&theirs], &digest);
        assert!(matches!(trust.check(&digest, Some(&foreign)), Err(TrustError::UnknownSigner { .. })));
        assert!(matches!(Trust::Keys(vec![]).check(&digest, Some(&good)), Err(TrustError::NoKeys)));
        let unsigned = Signers { verified: vec![], claimed: vec![] };
        assert_eq!(Trust::AllowUnsigned.check(&digest, None).unwrap(), unsigned);
        // Over another digest, and nobody looks: a claim, no more.
        let claims = Trust::AllowUnsigned.check(&[8; 32], Some(&good)).unwrap();
        assert!(claims.verified.is_empty());
        assert_eq!(claims.claimed, [trusted(&theirs).id(), trusted(&ours).id()]);
    }

    #[test]
    fn a_signature_under_another_keys_name_is_refused() {
        let (ours, theirs) = (signing_key(1), signing_key(2));
        let digest = [7; 32];
        let renamed = String::from_utf8(signatures(&[&theirs], &digest))
            .unwrap()
            .replace(trusted(&theirs).id(), trusted(&ours).id());
        let trust = Trust::Keys(vec![trusted(&ours)]);
        assert!(matches!(trust.check(&digest, Some(renamed.as_bytes())), Err(TrustError::Invalid { .. })));
    }

    #[test]
    fn malformed_signature_files_are_refused_even_where_none_is_required() {
        let key = signing_key(1);
        let good = String::from_utf8(signatures(&[&key], &[7; 32])).unwrap();
        let id = trusted(&key).id().to_owned();
        let signature = hex::encode(key.sign(&signing_message(&[7; 32])).to_bytes());
        let twice = good.replace("}]", &format!("}},{}]", &good[15..good.len() - 2]));
        let bad = [
            "{}".to_owned(),
            "[]".to_owned(),
            r#"{"signatures":[]}"#.to_owned(),
            good.replace("ed25519", "rsa"),
            good.replace(&id, "short"),
            good.replace(&id, &id.to_uppercase()).replace(&id, "ZZZZZZZZZZZZZZZZ"),
            good.replace("\"signature\":\"", "\"signature\":\"00"),
            good.replace(&signature, &signature.to_uppercase()),
            good.replace("\"algorithm\"", "\"extra\":1,\"algorithm\""),
            twice,
        ];
        for file in bad.iter().filter(|file| **file != good) {
            let got = Trust::AllowUnsigned.check(&[7; 32], Some(file.as_bytes()));
            assert!(matches!(got, Err(TrustError::Malformed { .. })), "{file}");
        }
        assert!(TrustedKey::from_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----").is_err());
        assert!(TrustedKey::from_bytes(&[0; 32]).is_err(), "small order");
    }

    #[test]
    fn a_pem_key_is_the_raw_key() {
        use ed25519_dalek::pkcs8::EncodePublicKey;
        use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
        let key = signing_key(3).verifying_key();
        let pem = key.to_public_key_pem(LineEnding::LF).unwrap();
        assert_eq!(TrustedKey::from_pem(&pem).unwrap(), TrustedKey::from_bytes(key.as_bytes()).unwrap());
    }
}
