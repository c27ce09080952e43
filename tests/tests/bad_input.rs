//! Every kind of bad input has a defined answer that says what was got, what was expected and what to do.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, io::Write as _, path::Path, process::Output, time::Duration};

use locus_firmware_config::message::{FaultCode, Outcome, Request};
use locus_tests::{Rig, facts, program, root};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// 600 bases that are nobody's, on a contig of their own, with one transcript over them.
fn pack(folder: &Path) {
    let bases: String = (0..600).map(|i| char::from(b"ACGGTCATTGCA"[(i * i + i / 3) % 12])).collect();
    fs::write(folder.join("pack.fa"), format!(">chr1:1001-1600\n{bases}\n")).unwrap();
    let gff = "##gff-version 3\n\
               chr1\t.\tmRNA\t1100\t1500\t.\t+\t.\tID=t1;Parent=g\n\
               chr1\t.\texon\t1100\t1500\t.\t+\t.\tParent=t1\n\
               chr1\t.\tCDS\t1121\t1480\t.\t+\t0\tParent=t1\n";
    fs::write(folder.join("pack.gff3"), gff).unwrap();
}

enum Expect {
    /// A probability.
    Answered,
    /// An answer without one, for this reason.
    Abstained(&'static str),
    /// A fault with this code, whose message has all of these words.
    Fault(u16, &'static str, &'static [&'static str]),
}

use Expect::{Abstained, Answered, Fault};

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_request_has_its_defined_answer() {
    let rig = Rig::new("[reference]\nfasta = \"pack.fa\"\ngff = \"pack.gff3\"\n").unwrap();
    pack(rig.path("").as_path());
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let http = daemon.http("ward-1").unwrap();
    let fact = &facts().variants[0];
    let whole = serde_json::to_value(fact.request("x")).unwrap();
    let with = |key: &str, value: Value| {
        let mut request = whole.clone();
        request[key] = value;
        request["id"] = Value::Null;
        request.to_string().into_bytes()
    };
    let sequence = |text: String| with("sequence", json!(text));
    let mutation = |text: &str| with("mutation", json!(text));
    let variant = |text: &str| json!({ "variant": text }).to_string().into_bytes();
    let s = &fact.sequence;
    let mut ambiguous = s.clone();
    ambiguous.replace_range(296..306, &format!("NRYK{}SWMB", &s[300..302]));
    let base = |position: usize| s.as_bytes()[position - 1] as char;
    let first = if base(1) == 'A' { "A1C".to_owned() } else { format!("{}1A", base(1)) };
    let table: Vec<(&str, Vec<u8>, Expect)> = vec![
        ("as it should be", with("id", Value::Null), Answered),
        ("lower case", sequence(s.to_lowercase()), Answered),
        ("U for T", sequence(s.replace('T', "U")), Answered),
        ("IUPAC codes far from the variant", sequence(format!("{}N{}", &s[..20], &s[21..])), Answered),
        ("IUPAC codes around the variant", sequence(ambiguous), Abstained("ambiguous")),
        ("an N ten bases from the variant", sequence(format!("{}N{}", &s[..290], &s[291..])), Answered),
        ("an N six bases from the variant", sequence(format!("{}N{}", &s[..294], &s[295..])), Abstained("11 bases around")),
        ("five known bases among N", sequence(format!("{}{}{}", "N".repeat(298), &s[298..303], "N".repeat(298))), Abstained("5 bases around")),
        ("CRLF between lines", sequence(format!("{}\r\n{}\r\n", &s[..300], &s[300..])), Answered),
        ("empty", sequence(String::new()), Fault(422, "empty", &["expected at least one base"])),
        ("one base", json!({ "sequence": "A", "mutation": "A1C" }).to_string().into_bytes(), Abstained("too few")),
        ("a variant on the first base", mutation(&first), Abstained("bases around")),
        ("10 MB", sequence("A".repeat(10 << 20)), Fault(413, "too_large", &["60000", "shorter"])),
        ("60 kB", sequence("A".repeat(60_000)), Fault(413, "too_large", &["60000"])),
        ("50,001 bases", sequence("A".repeat(50_001)), Fault(413, "too_long", &["50001", "50000"])),
        ("not ASCII", sequence(format!("{}é{}", &s[..10], &s[11..])), Fault(422, "bad_sequence", &["'é'", "position 11"])),
        ("a number in the sequence", sequence(format!("7{s}")), Fault(422, "bad_sequence", &["'7'", "position 1"])),
        ("outside the sequence", mutation("A602G"), Fault(422, "out_of_range", &["602", "601"])),
        ("far outside", mutation("A999999999999G"), Fault(422, "out_of_range", &["601"])),
        ("position 0", mutation("A0G"), Fault(422, "bad_mutation", &["position 0", "A123T"])),
        ("a stop", mutation("A301*"), Fault(422, "bad_mutation", &["last character", "A123T"])),
        ("no position", mutation("AG"), Fault(422, "bad_mutation", &["A123T"])),
        ("REF = ALT", mutation("A301A"), Fault(422, "ref_equals_alt", &["nothing changes"])),
        ("another REF", mutation("C301G"), Fault(422, "ref_mismatch", &["got reference allele C", "holds A"])),
        ("broken JSON", b"{\"sequence\": \"ACGT".to_vec(), Fault(400, "bad_request", &["Eof error at line 1, column 18"])),
        ("no JSON", b"\xff\xfe\x00".to_vec(), Fault(400, "bad_request", &["Syntax error at line 1, column 1"])),
        ("nothing", Vec::new(), Fault(400, "bad_request", &["Eof error at line 1, column 0"])),
        ("a list", b"[]".to_vec(), Fault(400, "bad_request", &["got a JSON list"])),
        ("deep nesting", format!("{{\"transcript\": {{\"exons\": {}", "[".repeat(50_000)).into_bytes(), Fault(400, "bad_request", &["error at line 1, column"])),
        ("an unknown key", with("patient_name", json!("x")), Fault(400, "bad_request", &["patient_name"])),
        ("both forms", with("variant", json!("chr1-1200-A-C")), Fault(400, "bad_request", &["either"])),
        ("a sequence alone", json!({ "sequence": "ACGT" }).to_string().into_bytes(), Fault(400, "bad_request", &["mutation"])),
        ("a strand that is none", with("transcript", json!({ "strand": "x", "exons": [[1, 2]], "cds": [] })), Fault(400, "bad_request", &["strand"])),
        ("exons that overlap", with("transcript", json!({ "strand": "+", "exons": [[1, 20], [10, 30]], "cds": [] })), Fault(422, "bad_transcript", &["overlap"])),
        ("a sequence as contig", variant(&format!("{}-1200-A-C", &s[..40])), Fault(422, "bad_mutation", &["reads as a sequence"])),
        ("a mitochondrial gene", with("gene", json!("MT-ND1")), Abstained("mitochondrial")),
        ("a phase of 3", with("transcript", json!({ "strand": "+", "exons": [[1, 20]], "cds": [[1, 20, 3]] })), Fault(422, "bad_transcript", &["phase"])),
        ("no exon", with("transcript", json!({ "strand": "+", "exons": [], "cds": [] })), Fault(422, "bad_transcript", &["no exon"])),
        ("a gene of 65 characters", with("gene", json!("x".repeat(65))), Fault(400, "bad_request", &["gene", "64"])),
        ("another model", with("model", json!("splice-effect")), Fault(404, "unknown_model", &["variant-effect"])),
        ("another assembly", with("assembly", json!("GRCh37")), Fault(422, "wrong_assembly", &["GRCh38"])),
        ("an unknown contig", variant("chr22-1200-A-C"), Fault(422, "unknown_contig", &["chr22", "chr1"])),
        ("outside the region", variant("chr1-900-A-C"), Fault(422, "out_of_range", &["chr1:900"])),
        ("no variant", variant("rs123"), Fault(422, "bad_mutation", &["chr17-43045705-T-A"])),
        ("an indel", variant(&format!("chr1-1200-{}-A", pack_base(200, 2))), Abstained("single-base")),
        ("the first base of a region", variant(&format!("chr1-1001-{}-{}", pack_base(1, 1), other(1))), Abstained("bases around")),
        ("the last base of a region", variant(&format!("chr1-1600-{}-{}", pack_base(600, 1), other(600))), Abstained("bases around")),
        ("inside the region", variant(&format!("1-1300-{}-{}", pack_base(300, 1), other(300))), Answered),
        ("a transcript that is not there", json!({ "variant": format!("chr1-1300-{}-{}", pack_base(300, 1), other(300)), "transcript_id": "t9" }).to_string().into_bytes(), Fault(422, "unknown_transcript", &["t9", "t1"])),
    ];
    let mut wrong = Vec::new();
    for (name, body, expected) in table {
        let (status, bytes) = match http.post(&body, PATIENCE) {
            Ok(got) => got,
            Err(error) => panic!("{name}: {error}"),
        };
        let problem = match (&expected, Outcome::from_json(&bytes).unwrap()) {
            (Answered, Outcome::Answer(a)) if a.pathogenic_probability.is_some() && status == 200 => continue,
            (Abstained(reason), Outcome::Answer(a))
                if a.abstained
                    && a.pathogenic_probability.is_none()
                    && a.predicted_description.contains(reason) =>
            {
                continue;
            }
            (Fault(expected, code, words), Outcome::Fault(f))
                if status == *expected
                    && f.code.as_str() == *code
                    && words.iter().all(|w| f.message.contains(w)) =>
            {
                assert!(
                    f.message.starts_with("got ") && f.message.contains("expected")
                        || *code == "ref_mismatch",
                    "{name}: {}",
                    f.message
                );
                continue;
            }
            (_, outcome) => format!("{name}: {status} {outcome:?}"),
        };
        wrong.push(problem);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Phases that contradict the parts are answered, with a warning.
    let mut contradicting = whole["transcript"].clone();
    let phase = &mut contradicting["cds"][0][2];
    *phase = json!((phase.as_u64().unwrap() + 1) % 3);
    for (transcript, warned) in [(whole["transcript"].clone(), false), (contradicting, true)] {
        let (_, bytes) = http.post(&with("transcript", transcript), PATIENCE).unwrap();
        let Outcome::Answer(answer) = Outcome::from_json(&bytes).unwrap() else { panic!("a fault") };
        assert_eq!(answer.warnings.iter().any(|w| w.contains("phases")), warned, "{:?}", answer.warnings);
    }
    assert!(daemon.terminate().unwrap().success());
    let log = fs::read_to_string(rig.path("locusd.log")).unwrap();
    assert!(!log.contains(&s[250..280]) && !log.contains("patient"), "the log holds nothing of a request");
}

fn pack_base(offset: usize, n: usize) -> String {
    (offset - 1..offset - 1 + n).map(|i| char::from(b"ACGGTCATTGCA"[(i * i + i / 3) % 12])).collect()
}

fn other(offset: usize) -> &'static str {
    if pack_base(offset, 1) == "A" { "C" } else { "A" }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_terminals_response_topic_is_refused_on_the_terminals_own() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let (host, port) = daemon.broker().unwrap();
    let mut thief = daemon.mqtt("ward-2").await.unwrap();
    // Watches where a terminal without a response topic of its own is answered.
    let mut options = rumqttc::MqttOptions::new("ward-2:watcher", (host.as_str(), port));
    options.set_clean_start(true).set_credentials("ward-2", daemon.token("ward-2").unwrap());
    let (client, mut events) = rumqttc::AsyncClient::builder(options).capacity(8).build();
    client.subscribe("locus/v1/ward/response/ward-2/#", rumqttc::mqttbytes::QoS::AtLeastOnce).await.unwrap();
    let body = serde_json::to_vec(&Request { id: None, ..facts().variants[0].request("x") }).unwrap();
    let mut seen = Vec::new();
    let watch = async {
        loop {
            use rumqttc::{Event, mqttbytes::v5::Packet};
            match events.poll().await.unwrap() {
                Event::Incoming(Packet::SubAck(_)) => {
                    let _ = thief
                        .ask_bytes(body.clone(), "locus/v1/ward/response/ward-1", Duration::from_millis(500))
                        .await;
                }
                Event::Incoming(Packet::Publish(publish)) => {
                    seen.push((
                        String::from_utf8(publish.topic.to_vec()).unwrap(),
                        Outcome::from_json(&publish.payload).unwrap(),
                    ));
                    break;
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, watch).await.unwrap();
    assert_eq!(seen[0].0, "locus/v1/ward/response/ward-2");
    match &seen[0].1 {
        Outcome::Fault(fault) => assert_eq!(fault.code, FaultCode::BadResponseTopic),
        Outcome::Answer(_) => panic!("answered"),
    }
}

fn score(folder: &Path, fasta: &str, gff: &str, vcf: &str) -> Output {
    program("locus")
        .arg("score")
        .arg("--bundle")
        .arg(root().join("models/variant-effect.locus"))
        .args(["--fasta", fasta, "--gff", gff, "--vcf", vcf, "--out", "out.tsv"])
        .current_dir(folder)
        .output()
        .unwrap()
}

#[test]
fn files_that_cannot_be_read_are_named_and_records_that_cannot_be_scored_are_rows() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    pack(dir);
    let header = "##fileformat=VCFv4.2\n##contig=<ID=chr1>\n##contig=<ID=chr22>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
    let (r, a) = (pack_base(300, 1), other(300));
    let rows = format!(
        "chr1\t1300\t.\t{r}\t{a}\t.\t.\t.\nchr1\t1300\t.\t{a}\t{r}\t.\t.\t.\nchr22\t5\t.\tA\tC\t.\t.\t.\nchr1\t1001\t.\t{}\t{}\t.\t.\t.\nchr1\t1200\t.\t{}\tA\t.\t.\t.\nchr1\t1300\t.\t{r}\t*\t.\t.\t.\nchr1\t9\t.\tA\tC\t.\t.\t.\n",
        pack_base(1, 1),
        other(1),
        pack_base(200, 2),
    );
    fs::write(dir.join("good.vcf"), format!("{header}{rows}")).unwrap();
    let output = score(dir, "pack.fa", "pack.gff3", "good.vcf");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = fs::read_to_string(dir.join("out.tsv")).unwrap();
    let statuses: Vec<&str> = table.lines().skip(1).map(|row| row.split('\t').nth(7).unwrap()).collect();
    let expected =
        ["ok", "ref_mismatch", "unknown_contig", "abstained", "abstained", "unreadable", "out_of_range"];
    assert_eq!(statuses.len(), expected.len(), "{table}");
    for (status, expected) in statuses.iter().zip(expected) {
        assert!(status.starts_with(expected), "{status:?}, expected {expected}");
    }
    assert_eq!(table.lines().next().unwrap(), "chrom\tpos\tref\talt\tprobability\tband\tconsequence\tstatus");
    fs::remove_file(dir.join("out.tsv")).unwrap();

    let bases = fs::read_to_string(dir.join("pack.fa")).unwrap();
    fs::write(dir.join("twice.fa"), format!("{bases}{bases}")).unwrap();
    let gzipped = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bases.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    fs::write(dir.join("cut.fa.gz"), &gzipped[..gzipped.len() / 2]).unwrap();
    fs::write(dir.join("headless.vcf"), &rows).unwrap();
    fs::write(dir.join("empty.fa"), "").unwrap();
    for (fasta, gff, vcf, words) in [
        ("twice.fa", "pack.gff3", "good.vcf", ["twice.fa", "occurs twice"]),
        ("cut.fa.gz", "pack.gff3", "good.vcf", ["cut.fa.gz", "whole"]),
        ("pack.fa", "pack.gff3", "headless.vcf", ["headless.vcf", "header"]),
        ("empty.fa", "pack.gff3", "good.vcf", ["empty.fa", "no records"]),
        ("none.fa", "pack.gff3", "good.vcf", ["none.fa", "check that the file is there"]),
        ("pack.fa", "good.vcf", "good.vcf", ["good.vcf", "expected"]),
    ] {
        let output = score(dir, fasta, gff, vcf);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{fasta} {gff} {vcf} was taken");
        assert!(words.iter().all(|word| text.contains(word)), "{fasta} {gff} {vcf}: {text}");
        assert!(!text.contains("panicked"), "{text}");
        assert!(!dir.join("out.tsv").exists(), "half a table is left");
    }
}
