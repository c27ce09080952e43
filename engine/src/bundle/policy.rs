//! A trust document that was verified, and the only two ways to one: signed by its own roots at first, by the roots
//! before and its own afterwards.

use locus_firmware_config::trust::{Role, SignedTrust, TrustDocument};

use super::trust::{TrustError, TrustedKey, entries_of, verified_by};

/// Whose bundles are taken, by a verified trust document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    signed: SignedTrust,
    signing: Vec<TrustedKey>,
}

impl Policy {
    /// Reads a document that is trusted because of where it comes from: it has to be signed by as many of its own
    /// roots as it says itself.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn open(bytes: &[u8]) -> Result<Self, TrustError> {
        let signed = SignedTrust::from_json(bytes)?;
        let own = keys_of(&signed.trust, &signed.trust.root)?;
        agreed(&signed, &own, "its own", signed.trust.root.threshold)?;
        let signing = keys_of(&signed.trust, &signed.trust.signing)?;
        Ok(Self { signed, signing })
    }

    /// Reads the document that follows this one: one version on, signed by enough of the roots here and of its own,
    /// and revoking all that is revoked here.
    ///
    /// # Errors
    /// [`TrustError`]; this one counts on.
    pub fn succeeded_by(&self, bytes: &[u8]) -> Result<Self, TrustError> {
        let next = Self::open(bytes)?;
        let (now, then) = (self.document(), next.document());
        if then.version != now.version.saturating_add(1) {
            return Err(TrustError::Version { got: then.version, expected: now.version.saturating_add(1) });
        }
        agreed(&next.signed, &keys_of(now, &now.root)?, "the present", now.root.threshold)?;
        match now.revoked.iter().find(|id| !then.revoked.contains(id)) {
            Some(key_id) => Err(TrustError::Forgotten { key_id: key_id.clone() }),
            None => Ok(next),
        }
    }

    /// What was signed.
    pub const fn document(&self) -> &TrustDocument {
        &self.signed.trust
    }

    /// The file, with its signatures.
    pub fn to_json(&self) -> Vec<u8> {
        self.signed.to_json()
    }

    /// Keys that may sign bundles.
    pub(super) fn signing(&self) -> &[TrustedKey] {
        &self.signing
    }
}

fn keys_of(document: &TrustDocument, role: &Role) -> Result<Vec<TrustedKey>, TrustError> {
    let key = |id: &String| {
        let bytes = document.key(id).ok_or_else(|| TrustError::Key { detail: "no 32 bytes".into() })?;
        TrustedKey::from_bytes(&bytes)
    };
    role.keys.iter().map(key).collect()
}

/// Whether enough of the keys have signed.
fn agreed(
    signed: &SignedTrust,
    keys: &[TrustedKey],
    whose: &'static str,
    threshold: u32,
) -> Result<(), TrustError> {
    let entries = entries_of(signed.signatures.clone())?;
    let got = verified_by(&entries, keys, &signed.trust.signing_message())?.len();
    if got >= threshold as usize {
        return Ok(());
    }
    Err(TrustError::Roots { whose, got, expected: threshold })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Trust;
    use ed25519_dalek::{Signer, SigningKey};
    use locus_firmware_config::manifest::{Signature, key_id, signing_message};
    use locus_firmware_config::trust::FORMAT;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn id(seed: u8) -> String {
        key_id(key(seed).verifying_key().as_bytes())
    }

    fn document(version: u64, roots: &[u8], threshold: u32, signing: &[u8]) -> TrustDocument {
        let hex = |seed: &u8| (id(*seed), hex::encode(key(*seed).verifying_key().as_bytes()));
        TrustDocument {
            format: FORMAT,
            version,
            issued: "2026-11-26".into(),
            expires: "2027-11-26".into(),
            keys: roots.iter().chain(signing).map(hex).collect(),
            root: Role { keys: roots.iter().copied().map(id).collect(), threshold },
            signing: Role { keys: signing.iter().copied().map(id).collect(), threshold: 2 },
            revoked: vec![],
        }
    }

    fn signed(trust: TrustDocument, seeds: &[u8]) -> Vec<u8> {
        let message = trust.signing_message();
        let sign = |seed: &u8| Signature {
            key_id: id(*seed),
            algorithm: "ed25519".into(),
            signature: hex::encode(key(*seed).sign(&message).to_bytes()),
        };
        SignedTrust { trust, signatures: seeds.iter().map(sign).collect() }.to_json()
    }

    #[test]
    fn a_next_version_needs_the_roots_before_and_its_own() {
        let first = Policy::open(&signed(document(1, &[1, 2, 3], 2, &[7, 8]), &[1, 3])).unwrap();
        let next = |version, seeds: &[u8]| {
            first.succeeded_by(&signed(document(version, &[3, 4, 5], 2, &[8, 9]), seeds))
        };
        assert_eq!(next(2, &[1, 3, 4]).unwrap().document().version, 2);
        assert!(matches!(next(2, &[4, 5]), Err(TrustError::Roots { whose: "the present", got: 0, .. })));
        assert!(matches!(next(2, &[3, 4]), Err(TrustError::Roots { whose: "the present", got: 1, .. })));
        assert!(matches!(next(2, &[1, 2, 3]), Err(TrustError::Roots { whose: "its own", got: 1, .. })));
        for version in [1, 3, u64::MAX] {
            assert!(matches!(next(version, &[1, 3, 4]), Err(TrustError::Version { expected: 2, .. })));
        }
        let too_few = Policy::open(&signed(document(1, &[1, 2], 2, &[7, 8]), &[1]));
        assert!(matches!(too_few, Err(TrustError::Roots { got: 1, expected: 2, .. })));
        let strangers = Policy::open(&signed(document(1, &[1, 2], 1, &[7, 8]), &[7, 8]));
        assert!(matches!(strangers, Err(TrustError::Roots { got: 0, .. })), "signing keys are no roots");
    }

    #[test]
    fn a_signature_over_another_document_is_refused() {
        let (one, two) = (document(1, &[1], 1, &[7, 8]), document(1, &[1], 1, &[8, 9]));
        let mut file: SignedTrust = serde_json::from_slice(&signed(one, &[1])).unwrap();
        file.trust = two;
        assert!(matches!(Policy::open(&file.to_json()), Err(TrustError::Invalid { .. })));
        // A signature over a bundle's digest is none over a trust document of the same digest.
        let mut other = file.clone();
        let over_bundle = key(1).sign(&signing_message(&other.trust.digest()));
        other.signatures[0].signature = hex::encode(over_bundle.to_bytes());
        assert!(matches!(Policy::open(&other.to_json()), Err(TrustError::Invalid { .. })));
    }

    #[test]
    fn what_is_revoked_stays_revoked_and_does_not_count() {
        let mut first = document(1, &[1], 1, &[7, 8, 9]);
        first.signing.threshold = 2;
        let first = Policy::open(&signed(first, &[1])).unwrap();
        let mut second = document(2, &[1], 1, &[7, 8]);
        second.revoked = vec![id(9)];
        let second = first.succeeded_by(&signed(second, &[1])).unwrap();
        let forgets = second.succeeded_by(&signed(document(3, &[1], 1, &[7, 8]), &[1]));
        assert!(matches!(forgets, Err(TrustError::Forgotten { key_id }) if key_id == id(9)));
        let bundle = |seeds: &[u8]| {
            let digest = [5; 32];
            let entries: Vec<_> = seeds
                .iter()
                .map(|seed| Signature {
                    key_id: id(*seed),
                    algorithm: "ed25519".into(),
                    signature: hex::encode(key(*seed).sign(&signing_message(&digest)).to_bytes()),
                })
                .collect();
            let file = serde_json::to_vec(&serde_json::json!({ "signatures": entries })).unwrap();
            Trust::Policy(second.clone().into()).check(&digest, Some(&file))
        };
        assert_eq!(bundle(&[7, 8, 9]).unwrap().verified, [id(7), id(8)]);
        assert!(matches!(bundle(&[7, 9]), Err(TrustError::Revoked { key_id, .. }) if key_id == id(9)));
        assert!(matches!(bundle(&[7, 1]), Err(TrustError::BelowThreshold { got: 1, expected: 2, .. })));
        assert!(matches!(bundle(&[1, 4]), Err(TrustError::UnknownSigner { .. })), "roots sign no bundles");
    }
}
