//! The trust document of a box: two copies in the state folder, moved forward only.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_engine::{Policy, TrustError};
use locus_firmware_config::trust::{MAX_TRUST_BYTES, TrustDocument, day};
use time::OffsetDateTime;

use crate::vfs::{Access, Vfs, write_atomic};

const COPIES: [&str; 2] = ["trust.0.json", "trust.1.json"];
/// How far a clock may step back before it is called wrong.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Why a box has no trust document, or does not take the next one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustStoreError {
    /// A file operation failed.
    #[error("trust: {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A document that is refused.
    #[error("trust document {path}: {source}")]
    Refused {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: TrustError,
    },
    /// Neither copy can be read.
    #[error(
        "both copies of the trust document in {dir} are damaged: put back a copy of them; nothing is flashed until then"
    )]
    Damaged {
        /// The folder.
        dir: PathBuf,
    },
    /// The configuration lists keys instead.
    #[error(
        "this box trusts a list of keys (models.trusted_keys), expected models.trust in its configuration"
    )]
    NoDocument,
}

/// The trust document that counts. Whoever has it open holds the lock of the slots.
#[derive(Debug)]
pub struct TrustStore {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    policy: Arc<Policy>,
}

fn io_at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TrustStoreError {
    let path = path.to_owned();
    move |source| TrustStoreError::Io { operation, path, source }
}

impl TrustStore {
    /// Opens what the box keeps; where it keeps nothing yet, the document that its configuration names is the first.
    ///
    /// # Errors
    /// [`TrustStoreError`]; a box that has lost its document does not fall back to the first.
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path, first: &Path) -> Result<Self, TrustStoreError> {
        if let Some(policy) = Self::peek(&*vfs, dir)? {
            return Ok(Self { vfs, dir: dir.to_owned(), policy: policy.into() });
        }
        let policy = Arc::new(Self::first(&*vfs, first)?);
        vfs.create_dir_all(dir).map_err(io_at("create", dir))?;
        let store = Self { vfs, dir: dir.to_owned(), policy };
        store.write(&store.policy)?;
        Ok(store)
    }

    /// Reads a first document, which is trusted because of where it lies.
    ///
    /// # Errors
    /// [`TrustStoreError`].
    pub fn first(vfs: &dyn Vfs, path: &Path) -> Result<Policy, TrustStoreError> {
        let refused = |source| TrustStoreError::Refused { path: path.to_owned(), source };
        Policy::open(&Self::bytes(vfs, path)?).map_err(refused)
    }

    /// Reads a file that may be a trust document.
    ///
    /// # Errors
    /// [`TrustStoreError::Io`].
    pub fn bytes(vfs: &dyn Vfs, path: &Path) -> Result<Vec<u8>, TrustStoreError> {
        vfs.read(path, MAX_TRUST_BYTES as u64).map_err(io_at("read", path))
    }

    /// Where the copies lie.
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    /// What a box keeps, for reading only; `None` where it keeps nothing yet.
    ///
    /// # Errors
    /// [`TrustStoreError`].
    pub fn peek(vfs: &dyn Vfs, dir: &Path) -> Result<Option<Policy>, TrustStoreError> {
        let copies = copies(vfs, dir)?;
        if copies.iter().all(Option::is_none) {
            return Ok(None);
        }
        // A copy proves itself: it is signed by its own roots.
        let good = copies.iter().flatten().filter_map(|bytes| Policy::open(bytes).ok());
        let newest = good.max_by_key(|policy| policy.document().version);
        newest.map(Some).ok_or_else(|| TrustStoreError::Damaged { dir: dir.to_owned() })
    }

    /// Files that cannot be read; the other copy counts.
    ///
    /// # Errors
    /// [`TrustStoreError::Io`].
    pub fn damaged_copies(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<PathBuf>, TrustStoreError> {
        let copies = copies(vfs, dir)?;
        let damaged =
            |copy: &Option<Vec<u8>>| copy.as_ref().is_some_and(|bytes| Policy::open(bytes).is_err());
        let named = COPIES.iter().zip(&copies).filter(|(_, copy)| damaged(copy));
        Ok(named.map(|(name, _)| dir.join(name)).collect())
    }

    /// What counts.
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Takes the next version, where the roots of this one and its own have signed it.
    ///
    /// # Errors
    /// [`TrustStoreError`]; what counts is what [`TrustStore::policy`] says then.
    pub fn update(&mut self, file: &Path, bytes: &[u8]) -> Result<(), TrustStoreError> {
        let refused = |source| TrustStoreError::Refused { path: file.to_owned(), source };
        let next = self.policy.succeeded_by(bytes).map_err(refused)?;
        let written = self.write(&next);
        // After an error of the disk it may have taken effect or not: the disk says.
        if let Ok(Some(now)) = Self::peek(&*self.vfs, &self.dir) {
            self.policy = now.into();
        }
        written
    }

    fn write(&self, policy: &Policy) -> Result<(), TrustStoreError> {
        for name in COPIES {
            let path = self.dir.join(name);
            write_atomic(&*self.vfs, &path, &policy.to_json(), Access::Group)
                .map_err(io_at("write", &path))?;
        }
        Ok(())
    }
}

fn copies(vfs: &dyn Vfs, dir: &Path) -> Result<[Option<Vec<u8>>; 2], TrustStoreError> {
    let mut copies = [None, None];
    for (copy, name) in copies.iter_mut().zip(COPIES) {
        let path = dir.join(name);
        match vfs.read(&path, MAX_TRUST_BYTES as u64) {
            Ok(bytes) => *copy = Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Longer than any: damaged, not unreadable.
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => *copy = Some(Vec::new()),
            Err(error) => return Err(io_at("read", &path)(error)),
        }
    }
    Ok(copies)
}

/// Whether a trust document still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It does.
    Holds,
    /// It does not.
    Expired {
        /// Its last day.
        expires: String,
        /// Today, by the box's clock.
        today: String,
    },
    /// The clock cannot tell, and why.
    Unknown(String),
}

/// Whether a document has expired by a clock that reads `now_ms`, where `known_ms` is known to have passed. A clock that
/// reads an earlier day than the document's making, or than the last entry of the audit trail, is wrong and tells nothing.
pub fn expiry(document: &TrustDocument, now_ms: u64, known_ms: u64) -> Expiry {
    let date =
        |ms: u64| OffsetDateTime::from_unix_timestamp((ms / 1_000) as i64).map(OffsetDateTime::date).ok();
    let (today, issued, expires) = (date(now_ms), day(&document.issued), day(&document.expires));
    let (Some(today), Some(issued), Some(expires)) = (today, issued, expires) else {
        return Expiry::Unknown("the clock reads no day".into());
    };
    if today < issued {
        return Expiry::Unknown(format!(
            "the clock reads {today}, before the trust document was made on {issued}: whether it has expired ({expires}) is not known; set the clock"
        ));
    }
    if now_ms.saturating_add(DAY_MS) < known_ms {
        let known = date(known_ms).map_or_else(String::new, |day| day.to_string());
        return Expiry::Unknown(format!(
            "the clock reads {today}, before the last entry of the audit trail on {known}: whether the trust document has expired ({expires}) is not known; set the clock"
        ));
    }
    if today > expires {
        return Expiry::Expired { expires: expires.to_string(), today: today.to_string() };
    }
    Expiry::Holds
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::vfs::{Fault, FaultyVfs};
    use ed25519_dalek::{Signer, SigningKey};
    use locus_firmware_config::{
        manifest::{Signature, key_id},
        trust::{FORMAT, Role, SignedTrust},
    };

    const DIR: &str = "/state/trust";

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    /// A document of two roots, both of which sign, and one signing key.
    pub(crate) fn document(version: u64, roots: [u8; 2], signing: u8, signers: &[u8]) -> Vec<u8> {
        let id = |seed: u8| key_id(key(seed).verifying_key().as_bytes());
        let hex = |seed: u8| (id(seed), hex::encode(key(seed).verifying_key().as_bytes()));
        let trust = TrustDocument {
            format: FORMAT,
            version,
            issued: "2026-11-26".into(),
            expires: "2027-11-26".into(),
            keys: roots.into_iter().chain([signing]).map(hex).collect(),
            root: Role { keys: roots.map(id).to_vec(), threshold: 2 },
            signing: Role { keys: vec![id(signing)], threshold: 1 },
            revoked: vec![],
        };
        let message = trust.signing_message();
        let sign = |seed: &u8| Signature {
            key_id: id(*seed),
            algorithm: "ed25519".into(),
            signature: hex::encode(key(*seed).sign(&message).to_bytes()),
        };
        SignedTrust { trust, signatures: signers.iter().map(sign).collect() }.to_json()
    }

    fn store(vfs: &FaultyVfs) -> Result<TrustStore, TrustStoreError> {
        TrustStore::open(Arc::new(vfs.clone()), Path::new(DIR), Path::new("/etc/trust.json"))
    }

    fn configured() -> FaultyVfs {
        let vfs = FaultyVfs::new();
        vfs.create_dir_all(Path::new("/etc")).unwrap();
        let first = document(1, [1, 2], 7, &[1, 2]);
        write_atomic(&vfs, Path::new("/etc/trust.json"), &first, Access::Group).unwrap();
        vfs
    }

    #[test]
    fn a_box_moves_forward_only_and_never_back_to_its_first_document() {
        let vfs = configured();
        let mut trust = store(&vfs).unwrap();
        let file = Path::new("/media/next.json");
        assert!(trust.update(file, &document(2, [2, 3], 8, &[2, 3])).is_err(), "one present root is too few");
        trust.update(file, &document(2, [2, 3], 8, &[1, 2, 3])).unwrap();
        assert!(trust.update(file, &document(2, [2, 3], 9, &[1, 2, 3])).is_err());
        drop(trust);
        assert_eq!(store(&vfs).unwrap().policy().document().version, 2);
        let dir = Path::new(DIR);
        vfs.tamper(&dir.join(COPIES[0]), |bytes| bytes[300] ^= 1).unwrap();
        assert_eq!(store(&vfs).unwrap().policy().document().version, 2);
        assert_eq!(TrustStore::damaged_copies(&vfs, dir).unwrap(), [dir.join(COPIES[0])]);
        vfs.tamper(&dir.join(COPIES[1]), |bytes| bytes.clear()).unwrap();
        assert!(matches!(store(&vfs), Err(TrustStoreError::Damaged { .. })));
    }

    #[test]
    fn power_cut_and_full_disk_at_every_operation_of_a_rotation_leave_one_document_that_moves_on() {
        let base = configured();
        drop(store(&base).unwrap());
        let (file, next) = (Path::new("/media/next.json"), document(2, [2, 3], 8, &[1, 2, 3]));
        let mut failed = 0;
        for fault in [
            Fault::PowerCut,
            Fault::Error(io::ErrorKind::StorageFull),
            Fault::Lasting(io::ErrorKind::StorageFull),
        ] {
            for at in 1.. {
                let vfs = base.fork();
                let mut trust = store(&vfs).unwrap();
                let before = vfs.operations();
                vfs.fail_at(before + at, fault);
                let ok = trust.update(file, &next).is_ok();
                failed += u32::from(!ok);
                let reached = vfs.operations() - before >= at;
                let said = trust.policy().document().version;
                drop(trust);
                vfs.restart(at);
                let mut trust = store(&vfs).unwrap();
                let version = trust.policy().document().version;
                assert!(version == 2 || version == 1 && !ok, "operation {at}: version {version}");
                assert!(
                    fault == Fault::PowerCut || version >= said,
                    "operation {at}: {said} was told, {version} is kept"
                );
                if version == 1 {
                    trust.update(file, &next).unwrap();
                }
                trust.update(file, &document(3, [3, 4], 8, &[2, 3, 4])).unwrap();
                if !reached {
                    assert!(ok);
                    break;
                }
            }
        }
        assert!(failed > 10, "{failed}");
    }

    #[test]
    fn a_document_expires_by_a_clock_that_can_be_believed() {
        let signed = SignedTrust::from_json(&document(1, [1, 2], 7, &[])).unwrap();
        let day_ms =
            |text: &str| (day(text).unwrap().midnight().assume_utc().unix_timestamp() * 1_000) as u64;
        let at = |now: &str, known: &str| expiry(&signed.trust, day_ms(now), day_ms(known));
        assert_eq!(at("2026-11-26", "2026-11-26"), Expiry::Holds);
        assert_eq!(at("2027-11-26", "2026-11-26"), Expiry::Holds);
        assert!(matches!(at("2027-11-27", "2026-11-26"), Expiry::Expired { .. }));
        assert!(
            matches!(at("1970-01-01", "1970-01-01"), Expiry::Unknown(why) if why.contains("before the trust document"))
        );
        assert!(
            matches!(at("2027-01-01", "2028-01-01"), Expiry::Unknown(why) if why.contains("audit trail"))
        );
        assert_eq!(at("2026-12-01", "2026-12-02"), Expiry::Holds, "a small step back");
    }
}
