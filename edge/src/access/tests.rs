use super::*;
use crate::clock::ManualClock;

const NOW: u64 = 1_800_000_000;

fn gate(anonymous: bool) -> (tempfile::TempDir, Arc<Gate>, Arc<ManualClock>) {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "site = \"s\"\nbox = \"b\"\nstate = \"state\"\n[models]\ntrusted_keys = [\"p\"]\n[journal]\nrecipients = [\"h\"]\n[access]\nanonymous = {anonymous}\n"
    );
    let config = Config::parse(&text, &dir.path().join("locusd.toml")).unwrap();
    let gate = Arc::into_inner(Gate::open(&config).unwrap()).unwrap();
    let clock = Arc::new(ManualClock::new(NOW * 1_000));
    (dir, Arc::new(Gate { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..gate }), clock)
}

fn enrol(gate: &Gate, name: &str, kind: Kind, digest: [u8; 32]) {
    let sha256 = hex::encode(digest);
    let credential =
        Credential { kind, sha256, serial: None, issued_s: NOW, expires_s: NOW + 100, revoked_s: None };
    Registry::change(&gate.state, NOW, |r| r.add(name, Role::Terminal, credential, NOW)).unwrap();
    gate.reload().unwrap();
}

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

#[test]
fn a_credential_counts_until_it_is_revoked_or_its_time_is_over_and_only_as_what_it_is() {
    let (_dir, gate, clock) = gate(false);
    let token = new_token().unwrap();
    assert_eq!(gate.by_token(&token, HERE), Err(Refusal::UnknownToken));
    enrol(&gate, "ward-3", Kind::Token, token_digest(&token));
    let somebody = gate.by_token(&token, ELSEWHERE).unwrap();
    assert_eq!((&*somebody.name, somebody.role), ("ward-3", Role::Terminal));
    // The bytes of a token shown as a certificate are none.
    assert_eq!(gate.by_certificate(token.as_bytes()), Err(Refusal::UnknownCertificate));
    enrol(&gate, "ward-4", Kind::Certificate, Sha256::digest(b"a certificate").into());
    assert_eq!(&*gate.by_certificate(b"a certificate").unwrap().name, "ward-4");
    assert_eq!(gate.by_token("a certificate", HERE), Err(Refusal::UnknownToken));
    Registry::change(&gate.state, NOW, |r| r.revoke("ward-3", None, NOW)).unwrap();
    assert!(gate.still(&somebody).is_ok(), "nobody told the gate");
    gate.reload().unwrap();
    assert_eq!(gate.still(&somebody), Err(Refusal::Revoked));
    assert_eq!(gate.by_token(&token, HERE), Err(Refusal::Revoked));
    let other = gate.by_certificate(b"a certificate").unwrap();
    clock.set_unix_ms((NOW + 100) * 1_000);
    assert_eq!(gate.by_certificate(b"a certificate"), Err(Refusal::Expired));
    assert_eq!(gate.still(&other), Err(Refusal::Expired));
}

#[test]
fn the_token_of_this_machine_counts_on_it_alone_and_nothing_counts_unless_it_is_allowed() {
    let (_dir, strict, _) = gate(false);
    let token = local_token(&strict.state).unwrap();
    assert_eq!(&*strict.by_token(&token, HERE).unwrap().name, LOCAL);
    assert_eq!(strict.by_token(&token, ELSEWHERE), Err(Refusal::UnknownToken));
    assert_eq!(strict.by_nothing(HERE), Err(Refusal::NoCredentials));
    assert_eq!(strict.role_of(ANONYMOUS), None);
    let (_dir, open, _) = gate(true);
    assert_eq!(&*open.by_nothing(HERE).unwrap().name, ANONYMOUS);
    assert_eq!(open.by_nothing(ELSEWHERE), Err(Refusal::NoCredentials));
}

#[test]
fn a_registry_that_cannot_be_read_changes_nothing() {
    let (_dir, gate, _) = gate(false);
    let token = new_token().unwrap();
    enrol(&gate, "ward-3", Kind::Token, token_digest(&token));
    std::fs::write(gate.state.registry(), "{").unwrap();
    assert!(matches!(gate.reload(), Err(AccessError::Registry(_))));
    assert_eq!(&*gate.by_token(&token, HERE).unwrap().name, "ward-3");
}

#[test]
fn a_session_is_over_with_its_token_and_no_order_of_an_operator_is_taken_from_whoever_was_not_enrolled() {
    let (_dir, gate, _) = gate(true);
    let token = new_token().unwrap();
    enrol(&gate, "ward-3", Kind::Token, token_digest(&token));
    let somebody = gate.by_token(&token, ELSEWHERE).unwrap();
    let secret = gate.sessions.begin(somebody.clone(), Instant::now()).unwrap();
    assert_eq!(gate.by_session(&secret, true), Ok(somebody));
    assert_eq!(gate.by_session(&token, true), Err(Refusal::Session), "a token is no session");
    Registry::change(&gate.state, NOW, |r| r.revoke("ward-3", None, NOW)).unwrap();
    gate.reload().unwrap();
    assert_eq!(gate.by_session(&secret, true), Err(Refusal::Revoked));
    assert_eq!(gate.by_session(&secret, true), Err(Refusal::Session), "it ended with the token");
    let local = gate.by_token(&local_token(&gate.state).unwrap(), HERE).unwrap();
    for identity in [local, gate.by_nothing(HERE).unwrap()] {
        assert!(identity.may(Action::Ask) && identity.may(Action::Metrics) && !identity.may(Action::Operate));
    }
}
