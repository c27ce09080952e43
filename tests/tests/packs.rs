//! Reference packs with the real programs, and HGVS names on the real panel.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use locus_edge::client::Terminal;
use locus_firmware_config::message::{Answer, Outcome, Request};
use locus_genome::{KmerTokenizer, ReferencePack, Variant, VariantEncoder, packed, vcf};
use locus_tests::{Rig, program};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// A signed pack of one region, in which `base` stands at position 1201.
fn pack(rig: &Rig, name: &str, base: char, assembly: &str) -> PathBuf {
    let mut bases: Vec<char> = "ACGGTCATTGCA".repeat(40).chars().take(400).collect();
    bases[200] = base;
    let (fasta, gff) = (rig.path(&format!("{name}.fa")), rig.path(&format!("{name}.gff3")));
    fs::write(&fasta, format!(">chr1:1001-1400\n{}\n", bases.iter().collect::<String>())).unwrap();
    fs::write(&gff, "##gff-version 3\nchr1\t.\tmRNA\t1100\t1300\t.\t+\t.\tID=t1;Parent=GENE\nchr1\t.\texon\t1100\t1300\t.\t+\t.\tParent=t1\nchr1\t.\tCDS\t1190\t1249\t.\t+\t0\tParent=t1\n").unwrap();
    let (unsigned, signed) = (rig.path(&format!("{name}.unsigned")), rig.path(&format!("{name}.locus")));
    let run = |arguments: &[&str]| {
        let output = program("locus").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = |path: &PathBuf| path.display().to_string();
    run(&[
        "pack",
        "build",
        "--fasta",
        &text(&fasta),
        "--gff",
        &text(&gff),
        "--assembly",
        assembly,
        "--name",
        name,
        "--date",
        "2026-01-01",
        "--out",
        &text(&unsigned),
    ]);
    run(&["pack", "sign", "--key", &text(&rig.path("publisher.key")), &text(&unsigned), &text(&signed)]);
    let verified = run(&["pack", "verify", "--key", &text(&rig.path("publisher.pub")), &text(&signed)]);
    assert!(verified.contains("are good"));
    assert!(run(&["pack", "show", &text(&signed)]).contains("1 transcripts of 1 genes"));
    signed
}

fn flash(rig: &Rig, path: &Path) -> Value {
    serde_json::from_str(&rig.ctl(&["flash", "--json", &path.display().to_string()]).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_is_flashed_answers_outlives_a_restart_and_is_gone_back_from() {
    let rig = Rig::new("[engine]\norder = [\"tract\"]\n").unwrap();
    rig.flash().unwrap();
    let (one, two) = (pack(&rig, "one", 'T', "hg38"), pack(&rig, "two", 'G', "GRCh38"));
    let request = |id: &str, variant: &str| Request {
        id: Some(id.into()),
        variant: Some(variant.into()),
        assembly: Some("GRCh38".into()),
        ..Request::default()
    };
    let answer = |outcome: Outcome| -> Answer {
        match outcome {
            Outcome::Answer(answer) => *answer,
            Outcome::Fault(fault) => panic!("{fault:?}"),
        }
    };
    let daemon = rig.start().unwrap();
    let mut terminal = Terminal::Http(daemon.http("t").unwrap());
    let refused = terminal.ask(&request("a", "t1:c.12T>A"), PATIENCE).await.unwrap();
    assert!(
        matches!(&refused, Outcome::Fault(fault) if fault.code.as_str() == "no_reference"),
        "{refused:?}"
    );
    let first = flash(&rig, &one);
    assert_eq!((&first["kind"], &first["name"]), (&"reference".into(), &"one".into()));
    let by_one = answer(terminal.ask(&request("b", "GENE:c.12T>A"), PATIENCE).await.unwrap());
    let reference = by_one.reference.unwrap();
    assert_eq!((reference.name.as_str(), Value::from(reference.digest)), ("one", first["digest"].clone()));
    let second = flash(&rig, &two);
    assert_eq!(second["previous"], first["digest"]);
    let by_two = answer(terminal.ask(&request("c", "t1:c.12G>A"), PATIENCE).await.unwrap());
    assert_eq!(by_two.reference.unwrap().name, "two");
    let unsigned = rig.ctl_output(&["flash", &rig.path("two.unsigned").display().to_string()]).unwrap();
    assert!(!unsigned.status.success() && String::from_utf8_lossy(&unsigned.stderr).contains("unsigned"));
    let health: Value =
        serde_json::from_slice(&daemon.operator().unwrap().get("/health").unwrap().1).unwrap();
    assert_eq!((&health["reference"]["name"], &health["assembly"]), (&"two".into(), &"GRCh38".into()));
    assert!(daemon.terminate().unwrap().success());

    let daemon = rig.start().unwrap();
    let mut terminal = Terminal::Http(daemon.http("t").unwrap());
    let again = answer(terminal.ask(&request("d", "t1:c.12G>A"), PATIENCE).await.unwrap());
    assert_eq!(again.reference.unwrap().name, "two");
    rig.ctl(&["rollback", "--model", "reference"]).unwrap();
    let back = answer(terminal.ask(&request("e", "t1:c.12T>A"), PATIENCE).await.unwrap());
    assert_eq!(back.reference.unwrap().name, "one");
    let slots: Value = serde_json::from_str(&rig.ctl(&["slots", "--json"]).unwrap()).unwrap();
    assert_eq!(slots["models"]["reference"]["active"], first["digest"]);
    let audit = rig.ctl(&["audit"]).unwrap();
    assert!(audit.contains("rollback") && audit.contains("unsigned"), "{audit}");
    rig.ctl(&["remove", "--model", "reference"]).unwrap();
    let gone = terminal.ask(&request("f", "t1:c.12T>A"), PATIENCE).await.unwrap();
    assert!(matches!(&gone, Outcome::Fault(fault) if fault.code.as_str() == "no_reference"), "{gone:?}");
    assert!(daemon.terminate().unwrap().success());
}

/// `p.(Gly943Arg)` of `G943R`, and `p.(Thr787=)` of `T787T`.
fn protein(change: &str) -> String {
    const CODES: &[u8] = b"ARNDCQEGHILKMFPSTWYV*";
    const NAMES: [&str; 21] = [
        "Ala", "Arg", "Asn", "Asp", "Cys", "Gln", "Glu", "Gly", "His", "Ile", "Leu", "Lys", "Met", "Phe",
        "Pro", "Ser", "Thr", "Trp", "Tyr", "Val", "Ter",
    ];
    let name = |code: u8| NAMES[CODES.iter().position(|&c| c == code).unwrap()];
    let bytes = change.as_bytes();
    let (before, after, number) = (bytes[0], bytes[bytes.len() - 1], &change[1..change.len() - 1]);
    match (before, after) {
        (b'M', after) if number == "1" && after != b'M' => "p.(Met1?)".into(),
        (before, after) if before == after => format!("p.({}{number}=)", name(before)),
        _ => format!("p.({}{number}{}", name(before), name(after)),
    }
}

#[test]
fn hgvs_names_agree_with_the_real_panel() {
    let Some(data) = locus_tests::data("HGVS agreement") else { return };
    let panel = data.join("panel");
    let pack =
        ReferencePack::open(&panel.join("panel.GRCh38.fa.gz"), &panel.join("panel.GRCh38.gff3.gz")).unwrap();
    let mut counts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for row in vcf::Reader::open(&panel.join("clinvar.GRCh38.vcf.gz")).unwrap() {
        let row = row.unwrap();
        let mc = row.info("MC").unwrap_or_default();
        if row.info("SPLIT") != Some("val") || mc == "other_gene" {
            continue;
        }
        let variant = row.variant.clone().unwrap();
        let id = format!("{}t1", row.info("LRG").unwrap());
        let transcript = pack.transcript_for(&variant, Some(&id)).unwrap().unwrap();
        let names = pack.hgvs_names(&variant, transcript).unwrap();
        let mut count = |what, agrees: bool| {
            let entry = counts.entry(what).or_default();
            entry.0 += 1;
            entry.1 += u32::from(agrees);
            if !agrees {
                wrong.push(format!("{what}: {variant} {id} {mc} {:?} {names:?}", row.info("AA")));
            }
        };
        let beyond = mc == "upstream" || mc == "downstream";
        count("c. where the transcript has a number", names.c.is_some() != beyond);
        let change = row.info("AA").filter(|aa| *aa != ".");
        if let Some(change) = change {
            let expected = protein(change);
            count(
                "p. as the records name the change of protein",
                names.p.as_ref().is_some_and(|p| p.starts_with(&expected)),
            );
        }
        let Some(c) = names.c.clone() else { continue };
        let place = c.split_once(":c.").or_else(|| c.split_once(":n.")).unwrap().1;
        // The records say where a change lies, in words of their own.
        let agrees = match mc {
            "splice_donor" => place.contains("+1") || place.contains("+2"),
            "splice_acceptor" => place.contains("-1") || place.contains("-2"),
            "intron" | "splice_region_intron" => place[1..].contains(['+', '-']),
            "5utr" => place.starts_with('-'),
            "3utr" => place.starts_with('*'),
            _ => match change {
                Some(change) => {
                    let residue: i64 = change[1..change.len() - 1].parse().unwrap();
                    let base: i64 = place[..place.len() - 3].parse().unwrap();
                    (base + 2) / 3 == residue
                }
                None => true,
            },
        };
        count("c. as the records name the place", agrees);
        let found = pack.find_hgvs(&c.parse().unwrap(), None, None, "GRCh38").unwrap();
        count(
            "c. finds the variant again",
            found.variant == variant && found.transcript_id.as_ref() == Some(&id),
        );
    }
    for (what, (all, agreed)) in &counts {
        println!("{what}: {agreed} of {all} ({:.3} %)", 100.0 * f64::from(*agreed) / f64::from(*all));
    }
    for line in wrong.iter().take(20) {
        println!("{line}");
    }
    assert!(counts["p. as the records name the change of protein"].0 > 2_000);
    for (what, (all, agreed)) in counts {
        assert!(f64::from(agreed) >= 0.999 * f64::from(all), "{what}: {agreed} of {all}");
    }
}

#[test]
fn the_real_panel_reads_the_same_from_a_pack() {
    let Some(data) = locus_tests::data("reading a pack") else { return };
    let panel = data.join("panel");
    let (fasta, gff) = (panel.join("panel.GRCh38.fa.gz"), panel.join("panel.GRCh38.gff3.gz"));
    let folder = tempfile::tempdir().unwrap();
    packed::build(&fasta, &gff, folder.path()).unwrap();
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let parts = || {
        let source = fs::File::open(folder.path().join(packed::BASES)).unwrap();
        packed::Parts {
            records: read(packed::RECORDS),
            transcripts: read(packed::TRANSCRIPTS),
            runs: read(packed::RUNS),
            blocks: read(packed::BLOCKS),
            bases_at: 0,
            bases_len: source.metadata().unwrap().len(),
            source: Arc::new(source),
        }
    };
    let files = ReferencePack::open(&fasta, &gff).unwrap();
    let pack = ReferencePack::packed(parts()).unwrap();
    let rows = vcf::Reader::open(&panel.join("clinvar.GRCh38.vcf.gz")).unwrap();
    let mut variants: Vec<Variant> = rows
        .map(Result::unwrap)
        .filter(|row| row.info("SPLIT") == Some("val"))
        .filter_map(|row| row.variant.ok())
        .collect();
    // In no order that a cache would like.
    variants.sort_by_key(|v| v.position.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let encoder = VariantEncoder::new(KmerTokenizer::new(3, 1).unwrap(), 61);
    let encode = |reference: &ReferencePack| {
        let started = Instant::now();
        let all: Vec<_> =
            variants.iter().map(|v| encoder.encode_reference(reference, v, None).unwrap()).collect();
        (all, started.elapsed().as_secs_f64() * 1e6 / variants.len() as f64)
    };
    let ((in_memory, memory_us), (in_pack, pack_us)) = (encode(&files), encode(&pack));
    assert!(in_memory == in_pack && in_memory.len() > 4_000);
    let started = Instant::now();
    for variant in &variants {
        let transcript = pack.transcript_for(variant, None).unwrap().unwrap();
        pack.hgvs_names(variant, transcript).unwrap();
    }
    let names_us = started.elapsed().as_secs_f64() * 1e6 / variants.len() as f64;
    println!("encoded: {memory_us:.1} us from memory, {pack_us:.1} us from a pack; names {names_us:.1} us");
}
