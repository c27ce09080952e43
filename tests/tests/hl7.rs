//! HL7 v2 over MLLP: a sender of its own over TCP and TLS, and raw bytes with every way to be wrong, into a real box.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use locus_tests::{Daemon, Rig};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

const PATIENCE: Duration = Duration::from_secs(30);
/// The listener of the first address waits long, that of the second 300 ms.
const LISTENERS: &str = "[engine]\norder = [\"tract\"]\n[reference]\nfasta = \"r.fa\"\ngff = \"r.gff3\"\n\
    [[mllp]]\nport = 0\nterminal = \"lab\"\npatient_as_subject = true\n[[mllp]]\nport = 0\nterminal = \"slow\"\nwait_ms = 300\nidle_ms = 1500\n";

/// A box with a genome of one region, in which T stands at position 1201.
fn a_box(listeners: &str) -> (Rig, Daemon) {
    let rig = Rig::new(listeners).unwrap();
    rig.small_genome().unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    (rig, daemon)
}

fn order(id: &str, observations: &str) -> String {
    format!(
        "MSH|^~\\&|LAB|ST-ANNA|LOCUS|BOX|20261126120000||ORU^R01^ORU_R01|{id}|P|2.5.1\r\
         PID|1||patient-12^^^ST-ANNA^MR||DOE^JANE\rOBR|1|p-1|f-1|51969-4^Genetic analysis report^LN\r{observations}"
    )
}

const CODING: &str =
    "OBX|1|CWE|48018-6^Gene^LN||HGNC:1^GENE^HGNC||||||F\rOBX|2|CWE|48004-6^c.HGVS^LN||t1:c.12T>A||||||F\r";
const LOCAL: &str = "OBX|1|ST|variant^Variant^99LOCUS||chr1-1201-T-A||||||F\r";

/// A sender.
struct Peer<S>(S);

impl Peer<TcpStream> {
    fn connect(daemon: &Daemon, listener: usize) -> Self {
        let address: SocketAddr = daemon.endpoints.mllp[listener].parse().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }
}

impl<S: Read + Write> Peer<S> {
    fn send(&mut self, message: &str) {
        self.0.write_all(format!("\x0b{message}\x1c\r").as_bytes()).unwrap();
    }

    /// The next message; `None` where the box has closed.
    fn hear(&mut self) -> Option<String> {
        let (mut bytes, mut byte) = (Vec::new(), [0]);
        loop {
            match self.0.read(&mut byte) {
                Ok(1) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("nothing came: {error}")
                }
                _ => {
                    assert!(bytes.is_empty(), "cut off: {bytes:?}");
                    return None;
                }
            }
            bytes.push(byte[0]);
            if bytes.ends_with(b"\x1c\r") {
                assert_eq!(bytes[0], 0x0b);
                return Some(String::from_utf8(bytes[1..bytes.len() - 2].to_vec()).unwrap());
            }
        }
    }

    fn acknowledge(&mut self, answer: &str, code: &str) {
        let id = part(answer, "MSH", 9);
        self.send(&format!(
            "MSH|^~\\&|LAB|ST-ANNA|LOCUS|BOX|20261126120000||ACK^R01|x|P|2.5.1\rMSA|{code}|{id}\r"
        ));
    }

    /// Asks, and takes the answer.
    fn ask(&mut self, message: &str) -> String {
        self.send(message);
        let taken = self.hear().unwrap();
        assert_eq!(part(&taken, "MSA", 1), "AA", "{taken}");
        assert_eq!(part(&taken, "MSA", 2), part(message, "MSH", 9));
        let answer = self.hear().unwrap();
        self.acknowledge(&answer, "AA");
        answer
    }

    /// Asks, and is refused: MSA-1, table 0357, our code.
    fn refused(&mut self, message: &str) -> (String, String, String) {
        self.send(message);
        let said = self.hear().unwrap();
        let first = |field: &str| field.split('^').next().unwrap().to_owned();
        assert!(part(&said, "ERR", 8).starts_with("got "), "{said}");
        (part(&said, "MSA", 1), first(&part(&said, "ERR", 3)), first(&part(&said, "ERR", 5)))
    }
}

fn part(message: &str, segment: &str, field: usize) -> String {
    let found = message.split('\r').find(|line| line.split('|').next() == Some(segment));
    found.and_then(|line| line.split('|').nth(field)).unwrap_or_default().to_owned()
}

/// The value of an observation.
fn observed(message: &str, code: &str) -> Option<String> {
    let mut lines = message.split('\r').filter(|line| line.starts_with("OBX|"));
    let line = lines.find(|line| line.split('|').nth(3).unwrap().split('^').next() == Some(code))?;
    line.split('|').nth(5).map(str::to_owned)
}

fn refusals(daemon: &Daemon, reason: &str) -> u64 {
    let metrics = String::from_utf8(daemon.operator().unwrap().get("/metrics").unwrap().1).unwrap();
    let line = format!("locus_refused_total{{transport=\"mllp\",reason=\"{reason}\"}}");
    metrics.lines().find_map(|l| l.strip_prefix(&line)).map_or(0, |value| value.trim().parse().unwrap())
}

#[test]
fn a_variant_is_asked_about_answered_acknowledged_and_kept() {
    let (rig, daemon) = a_box(LISTENERS);
    let mut peer = Peer::connect(&daemon, 0);
    let answer = peer.ask(&order("m-1", CODING));
    assert_eq!(part(&answer, "MSH", 8), "ORU^R01^ORU_R01");
    assert_eq!(
        (part(&answer, "MSH", 4), part(&answer, "PID", 3)),
        ("LAB".into(), "patient-12^^^ST-ANNA^MR".into())
    );
    assert_eq!(
        (part(&answer, "OBR", 2), part(&answer, "OBR", 3), part(&answer, "OBR", 25)),
        ("p-1".into(), "f-1".into(), "P".into())
    );
    assert_eq!(observed(&answer, "48004-6").unwrap(), "t1:c.12T>A");
    assert_eq!(observed(&answer, "48018-6").unwrap(), "GENE");
    assert!(observed(&answer, "consequence").unwrap().ends_with("_variant"), "{answer}");
    assert!(observed(&answer, "prediction").unwrap().contains("prediction"));
    assert!(observed(&answer, "model").unwrap().starts_with("variant-effect "));
    assert!(observed(&answer, "receipt").unwrap().contains("index 0 "), "{answer}");
    assert!(part(&answer, "NTE", 3).contains("not a diagnosis"));
    let probability = observed(&answer, "probability").map(|p| p.parse::<f64>().unwrap());
    assert_eq!(probability.is_some(), observed(&answer, "prior").is_some());
    for line in answer.split('\r').filter(|line| line.starts_with("OBX")) {
        let value = line.split('|').nth(5).unwrap().to_lowercase();
        assert!(!value.contains("pathogenic") || value.contains("computational prediction"), "{line}");
    }
    // The same id on another connection: the same answer, under the same id, kept once.
    let again = Peer::connect(&daemon, 0).ask(&order("m-1", CODING));
    assert_eq!(part(&again, "MSH", 9), part(&answer, "MSH", 9));
    // An answer that is not taken is in the journal all the same, and the next question is taken.
    peer.send(&order("m-2", LOCAL));
    assert_eq!(part(&peer.hear().unwrap(), "MSA", 1), "AA");
    let second = peer.hear().unwrap();
    assert_eq!(observed(&second, "variant").unwrap(), "chr1-1201-T-A");
    peer.acknowledge(&second, "AE");
    peer.ask(&order("m-3", LOCAL));
    assert_eq!(refusals(&daemon, "not_taken"), 1);
    assert!(daemon.terminate().unwrap().success());
    let kept = rig.exported().unwrap();
    assert_eq!(kept.len(), 3);
    let entry = &kept[0].to_string();
    assert!(
        entry.contains("\"mllp\"") && entry.contains("\"lab\"") && entry.contains("patient-12"),
        "{entry}"
    );
    let log = fs::read_to_string(rig.path("locusd.log")).unwrap();
    assert!(!log.contains("patient-12") && !log.contains("m-2") && !log.contains("1201"), "{log}");
}

#[test]
fn every_way_to_be_wrong_is_answered_and_the_next_message_is_taken() {
    let (_rig, daemon) = a_box(LISTENERS);
    let mut peer = Peer::connect(&daemon, 0);
    let good = order("w", CODING);
    peer.ask(&good);
    for (n, (from, to, expected)) in [
        ("ORU^R01^ORU_R01", "ORM^O01", ("AR", "200", "bad_request")),
        ("ORU^R01^ORU_R01", "ORU^R30", ("AR", "201", "bad_request")),
        ("2.5.1", "3", ("AR", "203", "bad_request")),
        ("MSH|^~\\&", "MSH|^~\\@", ("AR", "102", "bad_request")),
        ("2.5.1", "2.5.1||||||UNICODE UTF-16", ("AR", "103", "bad_request")),
        ("MSH|", "MSX|", ("AR", "100", "bad_request")),
        ("48004-6", "48004-5", ("AE", "101", "bad_request")),
        ("c.12T>A", "c.12T>A~c.13C>A", ("AE", "102", "bad_request")),
        ("c.12T>A", "c.12\\Z\\", ("AE", "102", "bad_request")),
        ("PID|1", "PID|1||another\rPID|2", ("AE", "207", "bad_request")),
        ("OBX|2", "<OBX>", ("AE", "100", "bad_request")),
        ("DOE", "D\tE", ("AE", "102", "bad_request")),
        ("c.12T>A", "nonsense", ("AE", "102", "bad_mutation")),
        ("t1:c.12T>A", "t9:c.12T>A", ("AE", "204", "unknown_transcript")),
        ("c.12T>A", "c.12G>A", ("AE", "102", "ref_mismatch")),
    ]
    .into_iter()
    .enumerate()
    {
        let message = order(&format!("w-{n}"), CODING).replacen(from, to, 1);
        let (a, b, c) = peer.refused(&message);
        assert_eq!((&*a, &*b, &*c), expected, "{from} -> {to}");
    }
    let (a, b, c) = peer.refused(&order("", CODING));
    assert_eq!((&*a, &*b, &*c), ("AE", "101", "bad_request"));
    let (a, b, c) = peer.refused(&order("w", LOCAL));
    assert_eq!((&*a, &*b, &*c), ("AE", "205", "id_reused"));
    let (a, _, c) = peer.refused(&order("long", &format!("{CODING}NTE|1||{}\r", "x".repeat(60_000))));
    assert_eq!((&*a, &*c), ("AE", "too_large"));
    // A block that is cut off by the next one: it is said, and the next one is taken.
    peer.0.write_all(b"\x0bMSH|^~\\&|cut").unwrap();
    let (a, ..) = peer.refused(&order("x", ""));
    assert_eq!(a, "AR");
    assert_eq!(part(&peer.hear().unwrap(), "ERR", 3).split('^').next(), Some("101"));
    // Noise between blocks, acknowledgements of nothing and an empty block: nothing is said to them.
    peer.0.write_all(b"noise\r\n").unwrap();
    peer.acknowledge(&good, "AA");
    peer.0.write_all(b"\x0b\x1c\r").unwrap();
    peer.ask(&order("after", CODING));
    assert_eq!((refusals(&daemon, "not_asked"), refusals(&daemon, "no_message")), (1, 1));
    assert_eq!((refusals(&daemon, "too_large"), refusals(&daemon, "framing")), (1, 1));
    assert!(daemon.terminate().unwrap().success());
}

#[test]
fn who_does_not_speak_mllp_or_does_not_acknowledge_is_let_go_and_others_are_served() {
    let (_rig, daemon) = a_box(LISTENERS);
    // Raw bytes without a start; a block that never ends.
    for bytes in [vec![b'x'; 4_096], [&[0x0b][..], &vec![b'x'; 2 << 20]].concat()] {
        let mut peer = Peer::connect(&daemon, 0);
        let _ = peer.0.write_all(&bytes);
        assert_eq!(peer.hear(), None);
    }
    // One that begins a block and stops; one that is silent; one that goes in the middle.
    let mut peer = Peer::connect(&daemon, 1);
    peer.0.write_all(b"\x0bMSH").unwrap();
    assert_eq!(peer.hear(), None);
    let mut silent = Peer::connect(&daemon, 1);
    assert_eq!(silent.hear(), None);
    // Answers that nobody acknowledges; the question may be sent again.
    let mut peer = Peer::connect(&daemon, 1);
    peer.send(&order("u", CODING));
    assert_eq!(part(&peer.hear().unwrap(), "MSA", 1), "AA");
    let answer = peer.hear().unwrap();
    assert_eq!(peer.hear(), None);
    assert_eq!(part(&Peer::connect(&daemon, 1).ask(&order("u", CODING)), "MSH", 9), part(&answer, "MSH", 9));
    // A second question before the acknowledgement is turned away.
    let mut peer = Peer::connect(&daemon, 0);
    peer.send(&order("v", CODING));
    peer.hear().unwrap();
    let answer = peer.hear().unwrap();
    let (a, b, c) = peer.refused(&order("v-2", CODING));
    assert_eq!((&*a, &*b, &*c), ("AR", "207", "busy"));
    peer.acknowledge(&answer, "CA");
    peer.ask(&order("v-2", CODING));
    // One connection more than is taken: whichever the box looked at last is let go.
    let mut held: Vec<_> = (0..16).map(|_| Peer::connect(&daemon, 0)).collect();
    let waited = Instant::now();
    let open = |peer: &mut Peer<TcpStream>| {
        peer.0.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let read = peer.0.read(&mut [0]);
        matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    };
    while held.iter_mut().map(open).filter(|open| *open).count() == 16 {
        assert!(waited.elapsed() < PATIENCE, "all are taken");
    }
    assert_eq!(held.iter_mut().map(open).filter(|open| *open).count(), 15);
    peer.ask(&order("v-3", CODING));
    drop(held);
    for reason in ["framing", "too_large", "slow", "unacknowledged", "out_of_turn", "connections"] {
        assert!(refusals(&daemon, reason) > 0, "{reason}");
    }
    assert!(daemon.terminate().unwrap().success());
}

#[test]
fn tls_takes_whom_the_authority_signed_and_nobody_else() {
    let made = tempfile::tempdir().unwrap();
    let authority = |name: &str| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        (Issuer::new(params, key), pem)
    };
    let (ours, ours_pem) = authority("ours");
    let (theirs, _) = authority("theirs");
    let signed = |by: &Issuer<'_, KeyPair>| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
    };
    let (certificate, key) = signed(&ours);
    for (name, text) in [("ca.pem", &ours_pem), ("box.pem", &certificate), ("box.key", &key)] {
        fs::write(made.path().join(name), text).unwrap();
    }
    let file = |name: &str| made.path().join(name).display().to_string();
    let (_rig, daemon) = a_box(&format!(
        "[engine]\norder = [\"tract\"]\n[reference]\nfasta = \"r.fa\"\ngff = \"r.gff3\"\n[[mllp]]\nport = 0\nterminal = \"lab\"\nwait_ms = 2000\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
        file("box.pem"),
        file("box.key"),
        file("ca.pem")
    ));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ours_pem.as_bytes()).unwrap()).unwrap();
    let connect = |identity: Option<(String, String)>| {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone());
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                builder
                    .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                    .unwrap()
            }
        };
        let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        Peer(StreamOwned::new(client, Peer::connect(&daemon, 0).0))
    };
    let mut early = connect(Some(signed(&ours)));
    let answer = early.ask(&order("t", CODING));
    assert_eq!(observed(&answer, "48004-6").unwrap(), "t1:c.12T>A");
    for stranger in [None, Some(signed(&theirs))] {
        let mut peer = connect(stranger);
        let _ = peer.0.write_all(b"\x0bMSH");
        assert_eq!(peer.hear(), None);
    }
    // Who speaks no TLS.
    let mut plain = Peer::connect(&daemon, 0);
    plain.send(&order("p", CODING));
    let mut rest = Vec::new();
    let _ = plain.0.read_to_end(&mut rest);
    assert!(!rest.contains(&0x0b), "{rest:?}");
    assert_eq!(refusals(&daemon, "tls"), 3);
    // Strangers who say nothing keep nobody out: the oldest of them makes room, and who was recognised stays.
    let silent: Vec<_> = (0..40).map(|_| Peer::connect(&daemon, 0)).collect();
    connect(Some(signed(&ours))).ask(&order("t-2", CODING));
    early.ask(&order("t-3", CODING));
    assert!(refusals(&daemon, "crowded") >= 24, "{}", refusals(&daemon, "crowded"));
    drop(silent);
    assert!(daemon.terminate().unwrap().success());
}
