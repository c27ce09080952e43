//! The pages of the box in a real browser: every path, in both languages, by keyboard, on a phone, offline and on paper.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use locus_edge::client::HttpTerminal;
use locus_firmware_config::message::{Answer, Outcome, Request};
use locus_tests::{Browser, Daemon, Rig, data, facts, onnxruntime, variation};
use serde_json::{Value, json};

const GENOME: &str = "[reference]\nfasta = \"r.fa\"\ngff = \"r.gff3\"\n";
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a script; what it prints is the test's.
fn drive(browser: &Browser, rig: &Rig, daemon: &Daemon, name: &str, mut given: Value) {
    given["base"] = json!(daemon.endpoints.http);
    given["onnxruntime"] = json!(onnxruntime().is_some());
    given["pid"] = json!(daemon.pid());
    let output = browser.script(name, given, &rig.path("")).unwrap().output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    print!("{out}");
    assert!(output.status.success(), "{name}: {out}{err}");
}

fn said(terminal: &HttpTerminal, variant: &str) -> Answer {
    let request = Request { variant: Some(variant.to_owned()), ..Request::default() };
    let body = serde_json::to_vec(&request).unwrap();
    match Outcome::from_json(&terminal.post(&body, PATIENCE).unwrap().1).unwrap() {
        Outcome::Answer(answer) => *answer,
        Outcome::Fault(fault) => panic!("{variant}: {fault:?}"),
    }
}

/// A variant of the small genome for each band, as the shipped model has it.
fn of_each_band(rig: &Rig, terminal: &HttpTerminal) -> BTreeMap<String, String> {
    let fasta = fs::read_to_string(rig.path("r.fa")).unwrap();
    let bases: Vec<char> = fasta.lines().nth(1).unwrap().chars().collect();
    let mut found = BTreeMap::new();
    for position in (1_130..1_290).step_by(2) {
        let reference = bases[position - 1_001];
        for alt in "ACGT".chars().filter(|alt| *alt != reference) {
            let variant = format!("chr1-{position}-{reference}-{alt}");
            let band = said(terminal, &variant).band.as_str().to_owned();
            found.entry(band).or_insert(variant);
        }
        if found.len() >= 3 {
            break;
        }
    }
    assert!(["benign", "uncertain", "pathogenic"].iter().all(|band| found.contains_key(*band)), "{found:?}");
    found
}

/// Files to annotate: short with every kind of line, long, and none at all.
fn files(rig: &Rig, uncertain: &str) -> [std::path::PathBuf; 3] {
    let head = "##fileformat=VCFv4.2\n##INFO=<ID=DP,Number=1,Type=Integer,Description=\"Depth\">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
    let parts: Vec<&str> = uncertain.split('-').collect();
    let [contig, position, reference, alternate] = parts[..] else { panic!("{uncertain}") };
    let others: Vec<char> = "ACGT".chars().filter(|base| *base != 'T').collect();
    let mut short = format!("{head}{contig}\t{position}\tone\t{reference}\t{alternate}\t.\tPASS\tDP=7\n");
    for (id, reference, alternate) in
        [("two", "T", "A,C"), ("wrong", "G", "A"), ("symbol", "T", "<DEL>"), ("indel", "T", "TA")]
    {
        writeln!(short, "chr1\t1201\t{id}\t{reference}\t{alternate}\t.\t.\t.").unwrap();
    }
    let mut long = head.to_owned();
    for n in 0..20_000 {
        let line = format!("chr1\t1201\tn{n}\tT\t{}\t.\t.\t.\n", others[n % 3]);
        if n < 200 {
            short.push_str(&line);
        }
        long.push_str(&line);
    }
    let write = |name: &str, text: &str| {
        fs::write(rig.path(name), text).unwrap();
        rig.path(name)
    };
    [
        write("batch.vcf", &short),
        write("long.vcf", &long),
        write("none.vcf", "#no header of a VCF\nchr1\t5\n"),
    ]
}

fn paths(files: &[std::path::PathBuf]) -> Vec<&Path> {
    files.iter().map(std::path::PathBuf::as_path).collect()
}

#[test]
fn at_the_bedside() {
    let Some(browser) = Browser::find("the page at the bedside") else { return };
    let rig = Rig::new(GENOME).unwrap();
    rig.small_genome().unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let mut variants = of_each_band(&rig, &daemon.http("ward-scan").unwrap());
    let position = 1_201;
    variants.insert("abstained".into(), format!("chr1-{position}-T-TA"));
    variants.insert("hgvs".into(), "t1:c.12T>A".into());
    variants.insert("gene".into(), "GENE c.12T>A".into());
    let files = files(&rig, &variants["uncertain"]);
    let [short, long, none] = paths(&files)[..] else { unreachable!() };
    let fact = facts().variants[0].clone();
    let given = json!({
        "token": rig.token("ward-page", "terminal").unwrap().trim(),
        "variants": variants, "vcf": short, "long": long, "no_vcf": none,
        "fact": { "sequence": fact.sequence, "mutation": fact.mutation, "transcript": fact.transcript },
    });
    drive(&browser, &rig, &daemon, "bedside", given);
    daemon.terminate().unwrap();
    let records = rig.exported().unwrap();
    let asked = |terminal: &str| {
        let of = |one: &&Value| one["record"]["terminal"] == terminal && one["record"]["transport"] == "http";
        records.iter().filter(of).count()
    };
    assert!(asked("ward-page") > 200, "what was asked on the page is in the journal: {}", asked("ward-page"));
    let subjects = records.iter().filter(|one| one["record"]["request"]["subject"] == "S-0042").count();
    assert_eq!(subjects, 1, "the pseudonym is");
}

#[test]
fn in_trouble() {
    let Some(browser) = Browser::find("the page in trouble") else { return };
    let rig = Rig::new(&format!(
        "{GENOME}[limits]\nqueue_units = 4\n[access]\nsession_idle_ms = 20000\nsession_ms = 600000\n"
    ))
    .unwrap();
    rig.small_genome().unwrap();
    rig.fake(400, 1).unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let token = rig.token("ward-page", "terminal").unwrap();
    let calm = rig.path("calm");
    let (ended, floods): (AtomicBool, Vec<HttpTerminal>) =
        (AtomicBool::new(false), (0..4).map(|n| daemon.http(&format!("flood-{n}")).unwrap()).collect());
    std::thread::scope(|threads| {
        for terminal in &floods {
            threads.spawn(|| {
                let request = serde_json::to_vec(&facts().variants[0].request("x")).unwrap();
                let mut request: Request = serde_json::from_slice(&request).unwrap();
                request.id = None;
                let body = serde_json::to_vec(&request).unwrap();
                while !calm.exists() && !ended.load(Ordering::Acquire) {
                    let _ = terminal.post(&body, PATIENCE);
                }
            });
        }
        let given = json!({ "token": token.trim(), "calm": calm });
        let driven = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            drive(&browser, &rig, &daemon, "trouble", given);
        }));
        ended.store(true, Ordering::Release);
        if let Err(panic) = driven {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(daemon.wait().unwrap().success(), "the box was told to stop by the script, and did");
}

#[test]
fn of_the_operator() {
    let Some(browser) = Browser::find("the operator's page") else { return };
    let rig = Rig::new(GENOME).unwrap();
    rig.small_genome().unwrap();
    rig.flash().unwrap();
    rig.configure(|text| text.replace("[models]\n", "[models]\nconfirm_by_hand = true\n")).unwrap();
    let daemon = rig.start().unwrap();
    let (unsigned, two) = (rig.path("unsigned.locus"), rig.path("two.locus"));
    fs::write(&unsigned, variation(|manifest| manifest.version = "8.0.0-two".parse().unwrap()).unwrap())
        .unwrap();
    rig.sign(&unsigned, &two).unwrap();
    let given = json!({
        "token": rig.token("ward-page", "terminal").unwrap().trim(),
        "operator": rig.token("anna", "operator").unwrap().trim(),
        "certificate": rig.enrolled("ward-cert", "terminal").unwrap(),
        "two": two, "unsigned": unsigned,
    });
    drive(&browser, &rig, &daemon, "box", given);
    let trail = rig.ctl(&["audit"]).unwrap();
    assert!(trail.lines().any(|line| line.contains("confirm  done") && line.ends_with("by anna")), "{trail}");
    let left: Vec<_> =
        fs::read_dir(rig.path("state/run")).unwrap().flatten().map(|one| one.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("uploaded-")), "{left:?}");
    daemon.terminate().unwrap();
}

/// Variants of TP53 in the real panel for each band, one base for another each.
fn of_the_panel(panel: &Path, terminal: &HttpTerminal) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for row in locus_genome::vcf::Reader::open(&panel.join("clinvar.GRCh38.vcf.gz")).unwrap() {
        let Ok(variant) = row.unwrap().variant else { continue };
        let place = variant.position;
        let tp53 = variant.contig.ends_with("17") && (7_668_421..7_687_490).contains(&place);
        if !tp53 || variant.ref_allele.len() != 1 || variant.alt_allele.len() != 1 {
            continue;
        }
        let text = format!("{}-{place}-{}-{}", variant.contig, variant.ref_allele, variant.alt_allele);
        let answer = said(terminal, &text);
        let missense = answer.consequence.as_deref().is_some_and(|terms| terms.starts_with("missense"));
        if missense && (answer.evidence.is_some() || answer.band.as_str() == "uncertain") {
            found.entry(answer.band.as_str().to_owned()).or_insert(text.clone());
        }
        if answer.band.as_str() == "benign" {
            found.entry("benign".to_owned()).or_insert(text);
        }
        if found.len() == 3 {
            break;
        }
    }
    found
}

#[test]
#[ignore = "takes the pictures of the documentation anew"]
fn pictures() {
    let Some(browser) = Browser::find("pictures of the page") else { return };
    let Some(data) = data("pictures of the page") else { return };
    let panel = data.join("panel").canonicalize().unwrap();
    let (fasta, gff) = (panel.join("panel.GRCh38.fa.gz"), panel.join("panel.GRCh38.gff3.gz"));
    let rig = Rig::new(&format!("[reference]\nfasta = {fasta:?}\ngff = {gff:?}\n")).unwrap();
    rig.configure(|text| text.replace("box-1", "ward-3-left").replace("\"ward\"", "\"st-anna\"")).unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let mut variants = of_the_panel(&panel, &daemon.http("ward-scan").unwrap());
    let some = variants["uncertain"].clone();
    let parts: Vec<&str> = some.split('-').collect();
    variants.insert("abstained".into(), format!("{}-{}-{}-{}TT", parts[0], parts[1], parts[2], parts[2]));
    let wrong = "ACGT".chars().find(|base| !parts[2..].contains(&base.to_string().as_str())).unwrap();
    variants.insert("wrong".into(), format!("{}-{}-{wrong}-{}", parts[0], parts[1], parts[3]));
    let out = locus_tests::root().join("docs/pictures");
    fs::create_dir_all(&out).unwrap();
    let given = json!({
        "token": rig.token("ward-3", "terminal").unwrap().trim(),
        "operator": rig.token("anna", "operator").unwrap().trim(),
        "variants": variants, "out": out,
    });
    drive(&browser, &rig, &daemon, "pictures", given);
    daemon.terminate().unwrap();
}
