//! The box's own certificate authority: made once, it issues the server's certificate and those of terminals.

use std::{
    io,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::{
    keys::random,
    state::StateDir,
    vfs::{Access, OsVfs, Vfs, write_atomic, write_new},
};

/// Largest file that is read here, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Life of the authority; terminals keep its certificate.
const AUTHORITY_DAYS: i64 = 30 * 365;
/// Life of the server's certificate; browsers take no longer one.
const SERVER_DAYS: i64 = 397;
/// It is issued anew so long before its end.
const SERVER_MARGIN_DAYS: i64 = 60;
/// A list of what was revoked is good for so long; the site's broker refuses everybody behind an old one.
const LIST_DAYS: i64 = 10 * 365;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// A file.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not PEM of a certificate or key.
    #[error("{path}: {detail}; expected PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// One half of the authority is missing.
    #[error(
        "{path} is missing, and the other half of the authority is there: put it back; without it every terminal must be enrolled anew"
    )]
    Half {
        /// What is missing.
        path: PathBuf,
    },
    /// The private key can be read by others.
    #[error("{path} can be read by others: run `chmod 600` on it; who read it can pose as any terminal")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// No certificate could be made.
    #[error("no certificate could be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The machine gives no random numbers, or a time beyond the calendar.
    #[error("no certificate could be made: {0}")]
    Machine(String),
}

pub(super) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    let path = path.to_owned();
    move |source| AuthorityError::Io { path, source }
}

/// What a certificate is issued for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A terminal, or another client.
    Client,
    /// A server, such as the site's broker.
    Server,
}

/// A certificate that was just issued.
#[derive(Debug)]
pub struct Issued {
    /// PEM.
    pub certificate: String,
    /// PEM; none where the key was made elsewhere.
    pub key: Option<Zeroizing<String>>,
    /// SHA-256 of the certificate.
    pub digest: [u8; 32],
    /// Its serial number, in hex.
    pub serial: String,
    /// Last second, since 1970.
    pub expires_s: u64,
}

/// Certificate and key of the authority.
pub struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

/// What the server's certificate says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    digest: String,
    authority: String,
    names: Vec<String>,
    expires_s: u64,
}

/// SHA-256 as browsers show it.
pub fn fingerprint(der: &[u8]) -> String {
    let pairs: Vec<String> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

/// From the beginning of time, so that a clock without battery refuses nobody; until `days` after now.
fn lifetime(params: &mut CertificateParams, now_s: u64, days: i64) -> Result<u64, AuthorityError> {
    let beyond = |error: &dyn std::fmt::Display| AuthorityError::Machine(error.to_string());
    let now = OffsetDateTime::from_unix_timestamp(now_s as i64).map_err(|error| beyond(&error))?;
    let end = now.checked_add(Duration::days(days)).ok_or_else(|| beyond(&"a time beyond the calendar"))?;
    params.not_before = OffsetDateTime::UNIX_EPOCH;
    params.not_after = end;
    Ok(end.unix_timestamp().max(0) as u64)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// A positive random number of 16 bytes.
fn serial() -> Result<[u8; 16], AuthorityError> {
    let mut bytes = *random::<16>().map_err(|error| AuthorityError::Machine(error.to_string()))?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(bytes)
}

impl Authority {
    /// Reads the authority of a box, or makes it at the first start.
    ///
    /// # Errors
    /// [`AuthorityError`]; one half alone is not made up for.
    pub fn load_or_create(state: &StateDir, box_name: &str, now_s: u64) -> Result<Self, AuthorityError> {
        let (certificate, key) = (state.authority(), state.authority_key());
        let there = |path: &Path| OsVfs.exists(path).map_err(io_at(path));
        match (there(&certificate)?, there(&key)?) {
            (true, true) => Self::read(&certificate, &key),
            (true, false) => Err(AuthorityError::Half { path: key }),
            // The key is written first: alone it is what a cut start left. What it has signed stays good.
            (false, has_key) => Self::create(state, box_name, now_s, has_key),
        }
    }

    fn read(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        if !OsVfs.is_private(key).map_err(io_at(key))? {
            return Err(AuthorityError::Exposed { path: key.to_owned() });
        }
        let secret = Zeroizing::new(text(key)?);
        let pem = text(certificate)?;
        let of = |path: &Path, detail: String| AuthorityError::Pem { path: path.to_owned(), detail };
        let pair = KeyPair::from_pem(&secret).map_err(|error| of(key, error.to_string()))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| of(certificate, error.to_string()))?;
        let issuer =
            Issuer::from_ca_cert_der(&der, pair).map_err(|error| of(certificate, error.to_string()))?;
        Ok(Self { pem, der, issuer })
    }

    /// A certificate, of the key that is there already or a new one.
    fn create(state: &StateDir, box_name: &str, now_s: u64, has_key: bool) -> Result<Self, AuthorityError> {
        let (certificate, key) = (state.authority(), state.authority_key());
        let folder = certificate.parent().unwrap_or(Path::new("."));
        OsVfs.create_dir_all(folder).map_err(io_at(folder))?;
        let of_key =
            |error: rcgen::Error| AuthorityError::Pem { path: key.clone(), detail: error.to_string() };
        let pair = match has_key {
            true => KeyPair::from_pem(&Zeroizing::new(text(&key)?)).map_err(of_key)?,
            false => KeyPair::generate()?,
        };
        let mut params = CertificateParams::default();
        // Part of the key, so that two boxes of one name are two authorities.
        let tag = hex::encode(&Sha256::digest(pair.public_key_raw())[..4]);
        params.distinguished_name = name(&format!("Locus {box_name} {tag}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(SerialNumber::from_slice(&serial()?));
        lifetime(&mut params, now_s, AUTHORITY_DAYS)?;
        let made = params.self_signed(&pair)?;
        if !has_key {
            let secret = Zeroizing::new(pair.serialize_pem());
            write_atomic(&OsVfs, &key, secret.as_bytes(), Access::Private).map_err(io_at(&key))?;
        }
        write_new(&OsVfs, &certificate, made.pem().as_bytes(), Access::Public)
            .map_err(io_at(&certificate))?;
        Self::read(&certificate, &key)
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// SHA-256 of its certificate: what a person compares.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.der)
    }

    /// Issues a certificate with a new key, or for the key of a signing request (PEM), of which nothing else counts.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn issue(
        &self,
        common: &str,
        names: &[String],
        purpose: Use,
        request: Option<&str>,
        now_s: u64,
        days: i64,
    ) -> Result<Issued, AuthorityError> {
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = name(common);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match purpose {
            Use::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Use::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let number = serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&number));
        let expires_s = lifetime(&mut params, now_s, days)?;
        let (made, key) = match request {
            Some(request) => {
                let request = CertificateSigningRequestParams::from_pem(request)?;
                (params.signed_by(&request.public_key, &self.issuer)?, None)
            }
            None => {
                let pair = KeyPair::generate()?;
                let made = params.signed_by(&pair, &self.issuer)?;
                (made, Some(Zeroizing::new(pair.serialize_pem())))
            }
        };
        let digest = Sha256::digest(made.der()).into();
        Ok(Issued { certificate: made.pem(), key, digest, serial: hex::encode(number), expires_s })
    }

    /// Chain and key of the server, issued anew where names, authority or the time ask for it.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn server(
        &self,
        state: &StateDir,
        names: &[String],
        now_s: u64,
    ) -> Result<(PathBuf, PathBuf), AuthorityError> {
        let (certificate, key, record) =
            (state.certificate(), state.certificate_key(), state.certificate_record());
        let margin_s = SERVER_MARGIN_DAYS as u64 * 86_400;
        let good = || -> Option<()> {
            let kept: Record = serde_json::from_slice(&OsVfs.read(&record, MAX_FILE).ok()?).ok()?;
            let pem = OsVfs.read(&certificate, MAX_FILE).ok()?;
            let der = CertificateDer::from_pem_slice(&pem).ok()?;
            let same = kept.digest == hex::encode(Sha256::digest(&der))
                && kept.authority == self.fingerprint()
                && kept.names == names
                && now_s + margin_s < kept.expires_s
                && OsVfs.exists(&key).ok()?;
            same.then_some(())
        };
        if good().is_none() {
            let common = names.first().map_or("locus", String::as_str);
            let issued = self.issue(common, names, Use::Server, None, now_s, SERVER_DAYS)?;
            let kept = Record {
                digest: hex::encode(issued.digest),
                authority: self.fingerprint(),
                names: names.to_vec(),
                expires_s: issued.expires_s,
            };
            let json = serde_json::to_vec(&kept).map_err(|error| io_at(&record)(error.into()))?;
            let secret = issued.key.unwrap_or_default();
            // The record comes last: without it the other two are made again.
            write_atomic(&OsVfs, &key, secret.as_bytes(), Access::Private).map_err(io_at(&key))?;
            write_atomic(&OsVfs, &certificate, issued.certificate.as_bytes(), Access::Public)
                .map_err(io_at(&certificate))?;
            write_atomic(&OsVfs, &record, &json, Access::Public).map_err(io_at(&record))?;
        }
        Ok((certificate, key))
    }

    /// The list of revoked certificates (PEM) for a broker of the site: serial numbers in hex and when.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn revocations(&self, revoked: &[(String, u64)], now_s: u64) -> Result<String, AuthorityError> {
        let at = |seconds: u64| {
            OffsetDateTime::from_unix_timestamp(seconds as i64)
                .map_err(|error| AuthorityError::Machine(error.to_string()))
        };
        let certificates = revoked.iter().filter_map(|(serial, when)| {
            let number = hex::decode(serial).ok()?;
            Some(at(*when).map(|when| RevokedCertParams {
                serial_number: SerialNumber::from_slice(&number),
                revocation_time: when,
                reason_code: Some(RevocationReason::CessationOfOperation),
                invalidity_date: None,
            }))
        });
        let mut number = now_s.to_be_bytes().to_vec();
        number.retain(|byte| *byte != 0);
        let list = CertificateRevocationListParams {
            this_update: OffsetDateTime::UNIX_EPOCH,
            next_update: at(now_s)? + Duration::days(LIST_DAYS),
            crl_number: SerialNumber::from_slice(if number.is_empty() { &[1] } else { &number }),
            issuing_distribution_point: None,
            revoked_certs: certificates.collect::<Result<_, _>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }
}

pub(super) fn text(path: &Path) -> Result<String, AuthorityError> {
    let bytes = OsVfs.read(path, MAX_FILE).map_err(io_at(path))?;
    String::from_utf8(bytes)
        .map_err(|_| AuthorityError::Pem { path: path.to_owned(), detail: "it is not text".into() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::server::WebPkiClientVerifier;
    use rustls_pki_types::UnixTime;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;

    fn made() -> (tempfile::TempDir, StateDir, Authority) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let authority = Authority::load_or_create(&state, "box-1", NOW).unwrap();
        (dir, state, authority)
    }

    #[test]
    fn an_authority_is_made_once_and_a_lost_half_is_not_made_up_for() {
        let (_dir, state, authority) = made();
        let again = Authority::load_or_create(&state, "renamed", NOW + DAY).unwrap();
        assert_eq!(again.fingerprint(), authority.fingerprint());
        assert_eq!(authority.fingerprint().len(), 32 * 3 - 1);
        let key = std::fs::read(state.authority_key()).unwrap();
        std::fs::remove_file(state.authority_key()).unwrap();
        let error = Authority::load_or_create(&state, "box-1", NOW).unwrap_err();
        assert!(matches!(error, AuthorityError::Half { .. }), "{error}");
        std::fs::write(state.authority_key(), key).unwrap();
        let error = Authority::load_or_create(&state, "box-1", NOW).unwrap_err();
        assert!(matches!(error, AuthorityError::Exposed { .. }), "{error}");
    }

    #[test]
    fn a_lost_certificate_is_made_anew_of_the_same_key() {
        let (_dir, state, authority) = made();
        let issued = authority.issue("ward-3", &[], Use::Client, None, NOW, 10).unwrap();
        let issued = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let key = std::fs::read(state.authority_key()).unwrap();
        std::fs::remove_file(state.authority()).unwrap();
        let again = Authority::load_or_create(&state, "box-1", NOW + DAY).unwrap();
        assert_eq!(std::fs::read(state.authority_key()).unwrap(), key, "what it has signed stays good");
        assert_ne!(again.fingerprint(), authority.fingerprint());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(again.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW + DAY));
        verifier.verify_client_cert(&issued, &[], now).unwrap();
    }

    #[test]
    fn the_servers_certificate_stays_until_its_names_or_its_time_ask_for_another() {
        let (_dir, state, authority) = made();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let read = || std::fs::read_to_string(state.certificate()).unwrap();
        authority.server(&state, &names, NOW).unwrap();
        let first = read();
        authority.server(&state, &names, NOW + 300 * DAY).unwrap();
        assert_eq!(read(), first, "good for more than two months");
        authority.server(&state, &names, NOW + 340 * DAY).unwrap();
        let second = read();
        assert_ne!(second, first, "near its end");
        authority
            .server(&state, &[names.clone(), vec!["box.ward".into()]].concat(), NOW + 340 * DAY)
            .unwrap();
        let third = read();
        assert_ne!(third, second, "another name");
        std::fs::remove_file(state.certificate_key()).unwrap();
        authority.server(&state, &names, NOW).unwrap();
        assert_ne!(read(), third, "its key was gone");
    }

    #[test]
    fn of_a_signing_request_only_the_key_counts() {
        let (_dir, _state, authority) = made();
        let pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["ca.evil".to_owned()]).unwrap();
        params.distinguished_name = name("somebody else");
        let request = params.serialize_request(&pair).unwrap().pem().unwrap();
        let issued = authority.issue("ward-3", &[], Use::Client, Some(&request), NOW, 10).unwrap();
        assert!(issued.key.is_none());
        assert_eq!(issued.expires_s, NOW + 10 * DAY);
        let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let has = |text: &str| der.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(has("ward-3") && !has("somebody else") && !has("ca.evil"));
        assert!(der.windows(65).any(|w| w == pair.public_key_raw()));
        assert!(authority.issue("ward-3", &[], Use::Client, Some("no request"), NOW, 10).is_err());
    }
}
