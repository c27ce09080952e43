//! Who may do what over a network: an authority of the box's own, a registry of who is enrolled, and one table of roles.
//!
//! A certificate or token that the registry does not hold, or holds as revoked or expired, is refused, whoever signed it.
//! The name that was authenticated is the terminal; no header, topic or user name says another one.

mod authority;
mod door;
mod guests;
mod registry;
mod role;
mod sessions;
mod token;

use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

pub use authority::{Authority, AuthorityError, Issued, Use, fingerprint};
pub(crate) use door::{Door, Peer};
pub(crate) use guests::{Cut, Guest, Guests, MOST};
pub use registry::{Credential, Enrolled, Kind, Registry, RegistryError};
pub use role::{Action, Refusal, Role};
pub(crate) use sessions::Sessions;
use token::local_token;
pub use token::{new_token, read_token, token_digest};

use crate::{
    clock::{Clock, SystemClock},
    config::{Config, Http, MqttMode},
    keys::KeyError,
    state::StateDir,
    vfs::{Access, OsVfs, Vfs, write_atomic},
};

/// Name under which `locusctl` asks the box that it is on.
pub const LOCAL: &str = "locusctl";
/// Name of whoever shows nothing, where that is allowed.
pub const ANONYMOUS: &str = "anonymous";
/// How often expiry is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often the server's certificate is looked at.
const RENEW_LOOKS: u32 = 720;

/// Why access cannot be given to anybody.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// Certificates.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// No token could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Certificate and key do not fit together.
    #[error("certificate and key cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authority's certificate cannot be used.
    #[error("the authority cannot be used: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Who was authenticated, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The terminal.
    pub name: Arc<str>,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of what it showed; none where it showed nothing.
    credential: Option<[u8; 32]>,
}

impl Identity {
    /// Whoever is on the other end of a line or listener that the configuration gives a terminal's name.
    pub(crate) fn of_line(name: &str) -> Self {
        Self { name: name.into(), role: Role::Terminal, credential: None }
    }

    /// Whether it may do something. To change what the box runs takes credentials of somebody who was enrolled for that:
    /// neither whoever needs none, nor the token of `locusctl`, which a group may read.
    pub fn may(&self, action: Action) -> bool {
        let enrolled = !matches!(&*self.name, LOCAL | ANONYMOUS);
        self.role.may(action) && (enrolled || action != Action::Operate)
    }
}

/// What counts now.
#[derive(Debug, Default)]
struct Snapshot {
    known: HashMap<[u8; 32], Known>,
    roles: HashMap<Arc<str>, Role>,
    local: Option<[u8; 32]>,
}

#[derive(Debug)]
struct Known {
    name: Arc<str>,
    role: Role,
    kind: Kind,
    expires_s: u64,
    revoked: bool,
}

/// What TLS is served with.
#[derive(Clone, Debug)]
struct Serving {
    http: Arc<ServerConfig>,
    mqtt: Arc<ServerConfig>,
}

/// Says who may come in; shared by every transport.
#[derive(Debug)]
pub struct Gate {
    state: StateDir,
    box_name: String,
    http: Http,
    anonymous: bool,
    clock: Arc<dyn Clock>,
    fingerprint: String,
    now: RwLock<Arc<Snapshot>>,
    serving: RwLock<Serving>,
    /// Whoever signed in on the page.
    pub(crate) sessions: Sessions,
    /// Connections of HTTPS.
    pub(crate) web: Arc<Guests>,
    /// Connections of the embedded broker.
    pub(crate) mqtt: Arc<Guests>,
}

/// Whether nobody may be enrolled under a name: it is the box's, or says who came without being enrolled.
pub fn is_reserved(name: &str, box_name: &str) -> bool {
    name == LOCAL || name == ANONYMOUS || name == box_name
}

/// Makes what a box needs to be asked, where it is missing.
///
/// # Errors
/// [`AccessError`].
pub fn prepare(config: &Config, now_s: u64) -> Result<Authority, AccessError> {
    let state = StateDir::new(&config.state);
    let authority = Authority::load_or_create(&state, &config.r#box, now_s)?;
    authority.server(&state, &names(&config.http, &config.r#box), now_s)?;
    local_token(&state)?;
    let list = state.revoked();
    if !OsVfs.exists(&list).map_err(authority::io_at(&list))? {
        write_revocations(&state, &authority, &Registry::read(&state)?, now_s)?;
    }
    Ok(authority)
}

/// Writes the list of revoked certificates for a broker of the site.
///
/// # Errors
/// [`AccessError`].
pub fn write_revocations(
    state: &StateDir,
    authority: &Authority,
    registry: &Registry,
    now_s: u64,
) -> Result<(), AccessError> {
    let (path, list) = (state.revoked(), authority.revocations(&registry.revoked(now_s), now_s)?);
    Ok(write_atomic(&OsVfs, &path, list.as_bytes(), Access::Public).map_err(authority::io_at(&path))?)
}

/// Names and addresses in the certificate that the box issues to itself.
fn names(http: &Http, box_name: &str) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let address = (!http.address.is_unspecified()).then(|| http.address.to_string());
    for name in std::iter::once(box_name.to_owned()).chain(address).chain(http.names.iter().cloned()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

impl Gate {
    /// Opens the gate of a box; makes what is missing.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn open(config: &Config) -> Result<Arc<Self>, AccessError> {
        let clock = Arc::new(SystemClock::new());
        let authority = prepare(config, clock.unix_ms() / 1_000)?;
        let state = StateDir::new(&config.state);
        let serving = serving(&state, &config.http, &config.r#box, &authority, clock.unix_ms() / 1_000)?;
        let gate = Self {
            now: RwLock::new(Arc::new(Snapshot::read(&state)?)),
            state,
            box_name: config.r#box.clone(),
            http: config.http.clone(),
            anonymous: config.access.anonymous,
            clock,
            fingerprint: authority.fingerprint(),
            serving: RwLock::new(serving),
            sessions: Sessions::new(
                Duration::from_millis(config.access.session_idle_ms),
                Duration::from_millis(config.access.session_ms),
            ),
            web: Guests::new("http"),
            mqtt: Guests::new("mqtt"),
        };
        tracing::info!(sha256 = gate.fingerprint, "certificates of this box are issued by its own authority");
        if gate.anonymous {
            tracing::warn!("access.anonymous = true: whoever is on this machine may ask and look");
        }
        if config.mqtt.mode == MqttMode::External && config.mqtt.ca.is_none() {
            tracing::warn!("the way to the broker is not encrypted");
        }
        Ok(Arc::new(gate))
    }

    /// SHA-256 of the authority.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Reads certificates and registry again and cuts off whom they no longer let in; how many connections. What cannot
    /// be read leaves everything as it was.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn reload(&self) -> Result<usize, AccessError> {
        let now_s = self.now_s();
        let authority = Authority::load_or_create(&self.state, &self.box_name, now_s)?;
        let serving = serving(&self.state, &self.http, &self.box_name, &authority, now_s)?;
        let snapshot = Snapshot::read(&self.state)?;
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = serving;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        Ok(self.cut())
    }

    /// Cuts off whoever counts no more.
    fn cut(&self) -> usize {
        [&self.web, &self.mqtt].map(|guests| guests.cut_unless(|one| self.still(one).is_ok())).iter().sum()
    }

    /// Cuts off whose time is over, and has the server's certificate issued anew in time, until `stop`.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = 0_u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            self.cut();
            looks = (looks + 1) % RENEW_LOOKS;
            if looks == 0 {
                let gate = Arc::clone(&self);
                let renewed = tokio::task::spawn_blocking(move || gate.reload()).await;
                if let Ok(Err(error)) = renewed {
                    tracing::error!(%error, "certificates and registry stay as they were");
                }
            }
        }
    }

    fn now_s(&self) -> u64 {
        self.clock.unix_ms() / 1_000
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn tls(&self, web: bool) -> Arc<ServerConfig> {
        let serving = self.serving.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(if web { &serving.http } else { &serving.mqtt })
    }

    /// Whom a certificate is of; its chain was verified in the handshake.
    pub(crate) fn by_certificate(&self, der: &[u8]) -> Result<Identity, Refusal> {
        self.find(Sha256::digest(der).into(), Kind::Certificate, Refusal::UnknownCertificate)
    }

    /// Whom a token is of; the one of `locusctl` counts from this machine alone.
    pub(crate) fn by_token(&self, token: &str, from: IpAddr) -> Result<Identity, Refusal> {
        let digest = token_digest(token);
        if self.snapshot().local == Some(digest) && from.is_loopback() {
            return Ok(Identity { name: LOCAL.into(), role: Role::Operator, credential: Some(digest) });
        }
        self.find(digest, Kind::Token, Refusal::UnknownToken)
    }

    /// Who signed in with a token before: for as long as the session lasts, and as the token still counts.
    pub(crate) fn by_session(&self, secret: &str, orders: bool) -> Result<Identity, Refusal> {
        let identity = self.sessions.find(secret, Instant::now(), orders).ok_or(Refusal::Session)?;
        self.still(&identity).inspect_err(|_| self.sessions.end(secret))?;
        Ok(identity)
    }

    /// Whoever shows nothing.
    pub(crate) fn by_nothing(&self, from: IpAddr) -> Result<Identity, Refusal> {
        if self.anonymous && from.is_loopback() {
            return Ok(Identity { name: ANONYMOUS.into(), role: Role::Operator, credential: None });
        }
        Err(Refusal::NoCredentials)
    }

    fn find(&self, digest: [u8; 32], kind: Kind, unknown: Refusal) -> Result<Identity, Refusal> {
        let snapshot = self.snapshot();
        let known = snapshot.known.get(&digest).filter(|known| known.kind == kind).ok_or(unknown)?;
        if known.revoked {
            return Err(Refusal::Revoked);
        }
        if known.expires_s <= self.now_s() {
            return Err(Refusal::Expired);
        }
        Ok(Identity { name: Arc::clone(&known.name), role: known.role, credential: Some(digest) })
    }

    /// Whether somebody who came in still may be here.
    pub(crate) fn still(&self, identity: &Identity) -> Result<(), Refusal> {
        let Some(digest) = identity.credential else {
            return if self.anonymous { Ok(()) } else { Err(Refusal::NoCredentials) };
        };
        let snapshot = self.snapshot();
        if snapshot.local == Some(digest) {
            return Ok(());
        }
        match snapshot.known.get(&digest) {
            None => Err(Refusal::Revoked),
            Some(known) if known.revoked => Err(Refusal::Revoked),
            Some(known) if known.expires_s <= self.now_s() => Err(Refusal::Expired),
            Some(known) if known.role != identity.role => Err(Refusal::Role),
            Some(_) => Ok(()),
        }
    }

    /// What a name may do now.
    pub(crate) fn role_of(&self, name: &str) -> Option<Role> {
        match name {
            LOCAL => Some(Role::Operator),
            ANONYMOUS => self.anonymous.then_some(Role::Operator),
            _ => self.snapshot().roles.get(name).copied(),
        }
    }
}

impl Snapshot {
    fn read(state: &StateDir) -> Result<Self, AccessError> {
        let registry = Registry::read(state)?;
        let mut snapshot = Self { local: Some(token_digest(&local_token(state)?)), ..Self::default() };
        for one in registry.enrolled {
            let name: Arc<str> = one.name.into();
            snapshot.roles.insert(Arc::clone(&name), one.role);
            for credential in &one.credentials {
                let Some(digest) = credential.digest() else { continue };
                let known = Known {
                    name: Arc::clone(&name),
                    role: one.role,
                    kind: credential.kind,
                    expires_s: credential.expires_s,
                    revoked: credential.revoked_s.is_some(),
                };
                snapshot.known.insert(digest, known);
            }
        }
        Ok(snapshot)
    }
}

/// Reads a chain of certificates.
pub(crate) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let pem = |path: &Path, detail: String| AuthorityError::Pem { path: path.to_owned(), detail };
    let text = authority::text(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| pem(path, error.to_string()))?;
    if chain.is_empty() {
        return Err(pem(path, "no certificate in it".into()));
    }
    Ok(chain)
}

/// Reads a private key.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, AuthorityError> {
    let text = Zeroizing::new(authority::text(path)?);
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| AuthorityError::Pem { path: path.to_owned(), detail: error.to_string() })
}

/// Whether the site's own certificate, where the configuration names one, can be served with.
///
/// # Errors
/// [`AccessError`].
pub fn check(http: &Http) -> Result<(), AccessError> {
    if let (Some(certificate), Some(key)) = (&http.certificate, &http.key) {
        CertifiedKey::from_der(chain(certificate)?, private_key(key)?, &ring::default_provider())?;
    }
    Ok(())
}

fn serving(
    state: &StateDir,
    http: &Http,
    box_name: &str,
    authority: &Authority,
    now_s: u64,
) -> Result<Serving, AccessError> {
    let (certificate, key): (PathBuf, PathBuf) = match (&http.certificate, &http.key) {
        (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        _ => authority.server(state, &names(http, box_name), now_s)?,
    };
    let (chain, secret) = (chain(&certificate)?, private_key(&key)?);
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let mut mqtt = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, secret)?;
    // Whoever comes back shows the certificate again: what was revoked meanwhile is seen.
    mqtt.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    mqtt.send_tls13_tickets = 0;
    let mut web = mqtt.clone();
    // Not HTTP/2: one connection of it has no bound on the time that a request's head takes.
    web.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Serving { http: Arc::new(web), mqtt: Arc::new(mqtt) })
}

#[cfg(test)]
mod tests;
