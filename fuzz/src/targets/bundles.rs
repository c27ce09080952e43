//! What is flashed: archives, manifests, trust.

use std::sync::{Arc, OnceLock};

use ed25519_dalek::{Signer as _, SigningKey};
use locus_engine::{
    Bundle, Limits, Policy, Trust, TrustedKey,
    bundle::{Depth, Pack, completed, is_delta, is_pack},
};
use locus_firmware_config::{
    manifest::{Manifest, Signature, key_id},
    pack::PackManifest,
    slot::SlotRecord,
    trust::{FORMAT, Role, SignedTrust, TrustDocument},
};
use locus_genome::Tokenizer;
use sha2::{Digest as _, Sha256};

use super::{genome, on_disk};

const BLOCK: usize = 512;

/// A publisher of the cases.
pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn trusts() -> &'static [Trust; 2] {
    static TRUSTS: OnceLock<[Trust; 2]> = OnceLock::new();
    TRUSTS.get_or_init(|| {
        let publisher = TrustedKey::from_bytes(key(1).verifying_key().as_bytes()).expect("a key");
        [Trust::AllowUnsigned, Trust::Keys(vec![publisher])]
    })
}

/// The archive with right checksums in what looks like a header, so that what lies behind them is reached.
fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    for block in bytes.as_chunks_mut::<BLOCK>().0 {
        if block[257..262] == *b"ustar" {
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(block);
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
    }
    bytes
}

fn opened(bytes: &[u8], trust: &Trust) {
    let Ok(bundle) = Bundle::read(bytes, bytes.len() as u64, trust, &Limits::default()) else { return };
    assert_eq!(
        bundle.signed(),
        matches!(trust, Trust::Keys(_)),
        "signed where that is asked for, and only there"
    );
    assert_eq!(bundle.digest(), hex::encode(Sha256::digest(bundle.manifest_bytes())));
    for part in &bundle.manifest().parts {
        let held = bundle.part(&part.name).expect("every part is there");
        assert_eq!((held.len() as u64, hex::encode(Sha256::digest(&held))), (part.size, part.sha256.clone()));
    }
    for mode in bundle.manifest().probability.modes.values() {
        let borders = [true, false].map(|missense| mode.borders(missense));
        assert!(borders.iter().all(|(low, high)| low <= high), "{borders:?}: a band is both");
    }
}

/// What opens is what was signed.
pub(super) fn bundle(bytes: &[u8]) {
    let repaired = repaired(bytes);
    for trust in trusts() {
        opened(bytes, trust);
        opened(&repaired, trust);
    }
}

/// What a delta is completed to is a bundle or refused, and nothing that its manifest does not name.
pub(super) fn delta(bytes: &[u8]) {
    for bytes in [bytes, &repaired(bytes)] {
        let path = on_disk("delta", bytes);
        let limits = Limits { bundle_bytes: 1 << 20, ..Limits::default() };
        let _ = is_delta(&path, &limits);
        for trust in trusts() {
            let known: Arc<[u8]> = crate::seeds::tokenizer_part().into();
            let whole = completed(&path, trust, &limits, &mut |part| {
                (part.size == known.len() as u64).then(|| Arc::clone(&known))
            });
            if let Ok(whole) = whole {
                assert!(whole.len() as u64 <= limits.bundle_bytes);
                let _ = Bundle::read(&whole[..], whole.len() as u64, trust, &limits);
            }
        }
    }
}

/// What opens as a pack answers for every base that it says to have.
pub(super) fn pack(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), repaired(bytes)] {
        let _ = is_pack(on_disk("pack", &bytes));
        let (total, source) = (bytes.len() as u64, Arc::new(bytes));
        for trust in trusts() {
            for depth in [Depth::Tables, Depth::Whole] {
                if let Ok(pack) = Pack::open(source.clone(), total, trust, depth) {
                    assert_eq!(pack.signed(), matches!(trust, Trust::Keys(_)));
                    if let Ok(reference) = pack.into_reference() {
                        genome::asked(&reference);
                    }
                }
            }
        }
    }
}

/// What was read is written and read again as the same.
pub(super) fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::from_json(bytes) {
        let again = manifest.to_json().expect("what was checked is written");
        assert_eq!(Manifest::from_json(&again).expect("what was written is read"), manifest);
        let _ = manifest.contract.exceeded();
    }
    if let Ok(manifest) = PackManifest::from_json(bytes) {
        assert!(PackManifest::is_one(bytes) && Manifest::from_json(bytes).is_err(), "no file is both");
        let again = manifest.to_json().expect("what was checked is written");
        assert_eq!(PackManifest::from_json(&again).expect("what was written is read"), manifest);
    }
}

/// A tokenizer that is read writes itself so, and reads what it wrote.
pub(super) fn tokenizer(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(tokenizer) = Tokenizer::from_json(text) {
        assert_eq!(Tokenizer::from_json(&tokenizer.to_json()), Ok(tokenizer));
        assert_eq!(tokenizer.vocab().len(), tokenizer.vocab_size());
    }
}

/// The first trust document of the cases: two roots, both needed.
pub(crate) fn document() -> TrustDocument {
    let id = |seed: u8| key_id(key(seed).verifying_key().as_bytes());
    let named = |seed: u8| (id(seed), hex::encode(key(seed).verifying_key().as_bytes()));
    TrustDocument {
        format: FORMAT,
        version: 1,
        issued: "2026-01-01".into(),
        expires: "2030-01-01".into(),
        keys: [1, 2, 3].map(named).into(),
        root: Role { keys: vec![id(2), id(3)], threshold: 2 },
        signing: Role { keys: vec![id(1)], threshold: 1 },
        revoked: vec!["0123456789abcdef".into()],
    }
}

/// The document, signed by both roots.
pub(crate) fn sign(trust: TrustDocument) -> SignedTrust {
    let signatures = [2, 3].map(|seed| {
        let key = key(seed);
        let signature = hex::encode(key.sign(&trust.signing_message()).to_bytes());
        Signature { key_id: key_id(key.verifying_key().as_bytes()), algorithm: "ed25519".into(), signature }
    });
    SignedTrust { trust, signatures: signatures.into() }
}

/// What is read is written and read again; what follows a document is one version on and takes no revocation back, even
/// where the roots sign it.
pub(super) fn trust(bytes: &[u8]) {
    static FIRST: OnceLock<Policy> = OnceLock::new();
    let first = FIRST.get_or_init(|| Policy::open(&sign(document()).to_json()).expect("a policy"));
    let Ok(read) = SignedTrust::from_json(bytes) else { return };
    assert_eq!(SignedTrust::from_json(&read.to_json()).expect("what was written is read"), read);
    for bytes in [bytes, &sign(read.trust.clone()).to_json()] {
        if let Ok(policy) = Policy::open(bytes) {
            let signing = &policy.document().signing;
            assert!((1..=signing.keys.len()).contains(&(signing.threshold as usize)));
        }
        if let Ok(next) = first.succeeded_by(bytes) {
            assert_eq!(next.document().version, 2);
            assert!(first.document().revoked.iter().all(|id| next.document().revoked.contains(id)));
        }
    }
}

/// What is read is written and read again as the same, with the CRC that it had and with the right one.
pub(super) fn slots(bytes: &[u8]) {
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(bytes);
    let repaired = [bytes, &crc.to_le_bytes()].concat();
    for bytes in [bytes, &repaired] {
        if let Some(record) = SlotRecord::decode(bytes) {
            assert_eq!(SlotRecord::decode(&record.encode()).as_ref(), Some(&record));
            let _ = record.names().map(|name| record.of(name).digests().count()).sum::<usize>();
            assert_ne!(record.next_copy() as u64, record.sequence % 2);
        }
    }
}
