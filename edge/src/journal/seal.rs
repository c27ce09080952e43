//! The cryptography of the journal, all of it from `hpke` and `chacha20poly1305`.
//!
//! A segment key is random and sealed to every recipient by HPKE (RFC 9180, base mode). It wraps the data key of
//! each record, or the key of a subject, which then wraps the data keys of that subject's records. Nonces are
//! counters with a prefix per purpose; a key never sees one twice, because it dies with its segment.

use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit, Nonce,
    aead::{Aead, AeadInOut, Payload},
};
use hpke::{Deserializable, OpModeR, OpModeS, Serializable, kdf::HkdfSha256};
use zeroize::Zeroizing;

use super::{
    JournalError,
    format::{JournalId, SealedKey, WRAPPED},
};
use crate::keys::{Identity, Kem, KeyError, Recipient, random};

pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// What a nonce is for.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// A record under its data key.
    Record,
    /// A data key under the segment's or subject's key.
    DataKey,
    /// A subject's key under the segment's key.
    SubjectKey,
}

pub(crate) fn new_key() -> Result<Secret, KeyError> {
    random()
}

/// As many new keys, from as few calls of the system as it takes.
pub(super) fn new_keys(n: usize) -> Result<Vec<Secret>, KeyError> {
    /// Most keys of one call.
    const CALL: usize = 64;
    let mut keys = Vec::with_capacity(n);
    while keys.len() < n {
        let bytes = random::<{ 32 * CALL }>()?;
        keys.extend(bytes.as_chunks::<32>().0.iter().take(n - keys.len()).map(|key| Zeroizing::new(*key)));
    }
    Ok(keys)
}

fn nonce(purpose: Purpose, counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..3].copy_from_slice(match purpose {
        Purpose::Record => b"rec",
        Purpose::DataKey => b"key",
        Purpose::SubjectKey => b"sub",
    });
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce.into()
}

pub(crate) fn encrypt(
    key: &Secret,
    purpose: Purpose,
    counter: u64,
    plaintext: &[u8],
    aad: &[u8],
) -> Result<Vec<u8>, JournalError> {
    ChaCha20Poly1305::new((&**key).into())
        .encrypt(&nonce(purpose, counter), Payload { msg: plaintext, aad })
        .map_err(|_| JournalError::Crypto { operation: "encrypt" })
}

/// As [`encrypt`], at the end of a buffer that has room for it: the plaintext is nowhere else on the way.
pub(super) fn encrypt_to(
    out: &mut Vec<u8>,
    key: &Secret,
    purpose: Purpose,
    counter: u64,
    plaintext: &[u8],
    aad: &[u8],
) -> Result<(), JournalError> {
    let start = out.len();
    out.extend(plaintext);
    let tag = ChaCha20Poly1305::new((&**key).into())
        .encrypt_inout_detached(&nonce(purpose, counter), aad, (&mut out[start..]).into())
        .map_err(|_| JournalError::Crypto { operation: "encrypt" })?;
    out.extend(tag);
    Ok(())
}

/// None where key, counter, associated data or ciphertext are not those of the encryption.
pub(crate) fn decrypt(
    key: &Secret,
    purpose: Purpose,
    counter: u64,
    ciphertext: &[u8],
    aad: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    ChaCha20Poly1305::new((&**key).into())
        .decrypt(&nonce(purpose, counter), Payload { msg: ciphertext, aad })
        .ok()
        .map(Zeroizing::new)
}

pub(super) fn wrap(
    key: &Secret,
    purpose: Purpose,
    counter: u64,
    secret: &Secret,
    aad: &[u8],
) -> Result<[u8; WRAPPED], JournalError> {
    let wrapped = encrypt(key, purpose, counter, &**secret, aad)?;
    wrapped.try_into().map_err(|_| JournalError::Crypto { operation: "wrap a key" })
}

pub(super) fn unwrap(
    key: &Secret,
    purpose: Purpose,
    counter: u64,
    wrapped: &[u8],
    aad: &[u8],
) -> Option<Secret> {
    let bytes = decrypt(key, purpose, counter, wrapped, aad)?;
    let mut secret = Zeroizing::new([0; 32]);
    if bytes.len() != secret.len() {
        return None;
    }
    secret.copy_from_slice(&bytes);
    Some(secret)
}

fn info(journal: &JournalId, segment: u64) -> Vec<u8> {
    [b"locus-journal-v1\0".as_slice(), journal, &segment.to_le_bytes()].concat()
}

/// Seals a segment's key to a recipient.
pub(super) fn seal(
    recipient: &Recipient,
    journal: &JournalId,
    segment: u64,
    key: &Secret,
) -> Result<SealedKey, JournalError> {
    seal_for(recipient, &info(journal, segment), key)
}

/// Opens a segment's key; none where it is sealed to others.
pub(super) fn open(
    identity: &Identity,
    journal: &JournalId,
    segment: u64,
    sealed: &[SealedKey],
) -> Option<Secret> {
    open_for(identity, &info(journal, segment), sealed)
}

/// Seals a key to a recipient, for a purpose and place that `info` names.
pub(crate) fn seal_for(recipient: &Recipient, info: &[u8], key: &Secret) -> Result<SealedKey, JournalError> {
    let (enc, sealed) = hpke::single_shot_seal::<hpke::aead::ChaCha20Poly1305, HkdfSha256, Kem>(
        &OpModeS::Base,
        &recipient.public(),
        info,
        &**key,
        recipient.as_bytes(),
    )
    .map_err(|_| JournalError::Crypto { operation: "seal a segment key" })?;
    Ok(SealedKey { recipient: recipient.id(), enc: hex::encode(enc.to_bytes()), key: hex::encode(sealed) })
}

/// Opens what [`seal_for`] sealed; none where it is sealed to others.
pub(crate) fn open_for(identity: &Identity, info: &[u8], sealed: &[SealedKey]) -> Option<Secret> {
    let recipient = identity.recipient();
    let id = recipient.id();
    sealed.iter().filter(|sealed| sealed.recipient == id).find_map(|sealed| {
        let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(&hex::decode(&sealed.enc).ok()?).ok()?;
        let bytes = hpke::single_shot_open::<hpke::aead::ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeR::Base,
            &identity.private(),
            &enc,
            info,
            &hex::decode(&sealed.key).ok()?,
            recipient.as_bytes(),
        )
        .map(Zeroizing::new)
        .ok()?;
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return None;
        }
        key.copy_from_slice(&bytes);
        Some(key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_for_its_recipient_in_its_segment_only() {
        let (hospital, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let key = new_key().unwrap();
        let sealed = [seal(&hospital.recipient(), &[1; 16], 5, &key).unwrap()];
        assert_eq!(open(&hospital, &[1; 16], 5, &sealed), Some(key));
        assert_eq!(open(&hospital, &[1; 16], 6, &sealed), None);
        assert_eq!(open(&hospital, &[2; 16], 5, &sealed), None);
        assert_eq!(open(&other, &[1; 16], 5, &sealed), None);
        let renamed = [SealedKey { recipient: other.recipient().id(), ..sealed[0].clone() }];
        assert_eq!(open(&other, &[1; 16], 5, &renamed), None);
    }

    #[test]
    fn a_wrapped_key_is_bound_to_purpose_counter_and_context() {
        let (outer, inner) = (new_key().unwrap(), new_key().unwrap());
        let wrapped = wrap(&outer, Purpose::DataKey, 3, &inner, b"here").unwrap();
        assert_eq!(unwrap(&outer, Purpose::DataKey, 3, &wrapped, b"here"), Some(inner.clone()));
        assert_eq!(unwrap(&outer, Purpose::SubjectKey, 3, &wrapped, b"here"), None);
        assert_eq!(unwrap(&outer, Purpose::DataKey, 4, &wrapped, b"here"), None);
        assert_eq!(unwrap(&outer, Purpose::DataKey, 3, &wrapped, b"there"), None);
        assert_eq!(unwrap(&inner, Purpose::DataKey, 3, &wrapped, b"here"), None);
    }
}
