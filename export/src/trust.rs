//! Signs trust documents.

use ed25519_dalek::{Signer, SigningKey};
use locus_firmware_config::{
    manifest::{MAX_SIGNATURES, Signature, key_id},
    trust::{SignedTrust, TrustDocument},
};

use crate::ExportError;

/// A checked trust document without signatures, as a file.
///
/// # Errors
/// A document that contradicts itself.
pub fn unsigned_trust(trust: TrustDocument) -> Result<Vec<u8>, ExportError> {
    trust.check()?;
    Ok(SignedTrust { trust, signatures: Vec::new() }.to_json())
}

/// Adds a signature to a trust document, or renews that of the same key.
///
/// # Errors
/// Not a trust document, or as many signatures of other keys as one may have.
pub fn sign_trust(file: &[u8], key: &SigningKey) -> Result<Vec<u8>, ExportError> {
    let mut signed = SignedTrust::from_json(file)?;
    let id = key_id(key.verifying_key().as_bytes());
    signed.signatures.retain(|signature| signature.key_id != id);
    if signed.signatures.len() >= MAX_SIGNATURES {
        return Err(ExportError::TooManySignatures);
    }
    let signature = hex::encode(key.sign(&signed.trust.signing_message()).to_bytes());
    signed.signatures.push(Signature { key_id: id, algorithm: "ed25519".into(), signature });
    Ok(signed.to_json())
}

#[cfg(test)]
mod tests {
    use super::*;
    use locus_firmware_config::trust::{FORMAT, Role};

    #[test]
    fn a_renewed_signature_replaces_the_one_before() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let public = key.verifying_key();
        let role = Role { keys: vec![key_id(public.as_bytes())], threshold: 1 };
        let document = TrustDocument {
            format: FORMAT,
            version: 1,
            issued: "2026-11-26".into(),
            expires: "2027-11-26".into(),
            keys: [(role.keys[0].clone(), hex::encode(public.as_bytes()))].into(),
            root: role.clone(),
            signing: role,
            revoked: vec![],
        };
        let unsigned = unsigned_trust(document.clone()).unwrap();
        let once = sign_trust(&unsigned, &key).unwrap();
        assert_eq!(sign_trust(&once, &key).unwrap(), once);
        assert_eq!(SignedTrust::from_json(&once).unwrap().signatures.len(), 1);
        assert!(unsigned_trust(TrustDocument { version: 0, ..document }).is_err());
    }
}
