//! What can be shown, and how a refusal is counted.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use locus_edge::{
    access::{Authority, Credential, Kind, Registry, Role, Use, token_digest},
    client::{Credentials, HttpTerminal},
    state::StateDir,
};
use locus_tests::Rig;

use crate::PATIENCE;

const DAY: u64 = 86_400;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What can be shown, good and bad.
pub(crate) struct Shown {
    pub(crate) nothing: Credentials,
    pub(crate) good: Credentials,
    pub(crate) other: Credentials,
    pub(crate) metrics: Credentials,
    pub(crate) auditor: Credentials,
    pub(crate) foreign: Credentials,
    pub(crate) expired: Credentials,
    pub(crate) unknown: Credentials,
    pub(crate) revoked: Credentials,
    pub(crate) server: Credentials,
    pub(crate) token: String,
    pub(crate) revoked_token: String,
    pub(crate) expired_token: String,
}

impl Shown {
    /// Of a box whose model is flashed.
    pub(crate) fn of(rig: &Rig) -> Self {
        let state = StateDir::new(&rig.path("state"));
        let nothing = Credentials::trusting(&state.authority()).unwrap();
        let mut foreign = {
            let elsewhere = Rig::new("").unwrap();
            elsewhere.ctl(&["init"]).unwrap();
            elsewhere.certificate("ward-1", "terminal").unwrap()
        };
        foreign.authority = nothing.authority.clone();
        let revoked = rig.certificate("gone-1", "terminal").unwrap();
        let revoked_token = rig.token("gone-2", "terminal").unwrap();
        rig.ctl(&["access", "revoke", "gone-1"]).unwrap();
        rig.ctl(&["access", "revoke", "gone-2"]).unwrap();
        let authority = Authority::load_or_create(&state, "box-1", now_s()).unwrap();
        let issue = |name: &str, when: u64, enrolled: bool| {
            let issued = authority.issue(name, &[], Use::Client, None, when, 5).unwrap();
            let key = issued.key.unwrap().as_bytes().to_vec();
            if enrolled {
                let credential = Credential {
                    kind: Kind::Certificate,
                    sha256: hex::encode(issued.digest),
                    serial: Some(issued.serial),
                    issued_s: when,
                    expires_s: issued.expires_s,
                    revoked_s: None,
                };
                Registry::change(&state, now_s(), |r| r.add(name, Role::Terminal, credential, now_s()))
                    .unwrap();
            }
            let certificate = Some((issued.certificate.into_bytes(), key.into()));
            Credentials { certificate, ..nothing.clone() }
        };
        let expired = issue("late-1", now_s() - 10 * DAY, true);
        let unknown = issue("ward-1", now_s(), false);
        let expired_token = format!("locus-token-{}", "e1".repeat(32));
        let late = Credential {
            kind: Kind::Token,
            sha256: hex::encode(token_digest(&expired_token)),
            serial: None,
            issued_s: 1,
            expires_s: 2,
            revoked_s: None,
        };
        Registry::change(&state, now_s(), |r| r.add("late-2", Role::Terminal, late, now_s())).unwrap();
        let server =
            nothing.clone().with_certificate(&state.certificate(), &state.certificate_key()).unwrap();
        Self {
            good: rig.certificate("ward-1", "terminal").unwrap(),
            other: rig.certificate("ward-2", "terminal").unwrap(),
            metrics: rig.certificate("meter", "metrics").unwrap(),
            auditor: rig.certificate("witness", "auditor").unwrap(),
            token: rig.token("ward-3", "terminal").unwrap(),
            nothing,
            foreign,
            expired,
            unknown,
            revoked,
            server,
            revoked_token,
            expired_token,
        }
    }
}

/// How often something was refused for a reason.
fn refused(operator: &HttpTerminal, transport: &str, reason: &str) -> u64 {
    let text = String::from_utf8(operator.get("/metrics").unwrap().1).unwrap();
    let line = format!("locus_refused_total{{transport=\"{transport}\",reason=\"{reason}\"}} ");
    text.lines().find_map(|one| one.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
}

/// A case is refused as it should be, and counted.
pub(crate) fn check(
    operator: &HttpTerminal,
    transport: &str,
    case: &str,
    reason: &str,
    run: impl FnOnce() -> Result<String, String>,
) {
    let before = refused(operator, transport, reason);
    let outcome = run();
    assert!(outcome.is_err(), "{transport}, {case}: let in: {outcome:?}");
    let waited = std::time::Instant::now();
    while refused(operator, transport, reason) <= before {
        assert!(waited.elapsed() < PATIENCE, "{transport}, {case}: not counted as {reason}: {outcome:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Bytes that are no TLS, to a port that speaks nothing else.
pub(crate) fn without_tls(address: &str, bytes: &[u8]) -> Result<String, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    // A TLS alert or nothing at all.
    if answer.is_empty() || answer[0] == 0x15 { Err("no TLS".into()) } else { Ok(format!("{answer:?}")) }
}
