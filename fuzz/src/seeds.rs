//! The first files of every corpus: good ones of each format, and some that are nearly so. What fuzzing finds beside
//! them lies in the same folders.

use std::{fs, path::Path, sync::OnceLock};

use anyhow::{Context as _, Result};
use ed25519_dalek::{
    Signer as _,
    pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, spki::der::pem::LineEnding},
};
use locus_edge::{
    audit::{About, Audit, Stage, What},
    clock::ManualClock,
    journal::{Journal, prove},
    vfs::Vfs as _,
};
use locus_firmware_config::{
    manifest::{Signature, Signatures, key_id, signing_message},
    message::{Fault, FaultCode, Request, TranscriptSpec},
    profile::DeviceProfile,
    slot::{SlotRecord, Slots},
    terminal::REQUEST_BYTES,
    trust::TrustDocument,
};
use locus_genome::{KmerTokenizer, Tokenizer, packed, tokenizer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    TARGETS, corpus,
    memory::Memory,
    targets::{bundles, genome, journal, laboratory},
};

/// The tokenizer of the cases' bundles, as its part.
pub(crate) fn tokenizer_part() -> &'static [u8] {
    static PART: OnceLock<String> = OnceLock::new();
    PART.get_or_init(|| KmerTokenizer::new(3, 1).expect("a tokenizer").to_json()).as_bytes()
}

/// Writes the first files of every corpus; what else lies there stays.
///
/// # Errors
/// A file cannot be written, or what a case is made of cannot be read.
pub fn write() -> Result<()> {
    for target in TARGETS {
        let folder = corpus::folder(target.name);
        fs::create_dir_all(&folder)?;
        for (number, bytes) in of(target.name)?.into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), bytes)?;
        }
    }
    Ok(())
}

/// The first files of a target.
///
/// # Errors
/// What a case is made of cannot be read.
pub fn of(target: &str) -> Result<Vec<Vec<u8>>> {
    let texts = |texts: &[&str]| Ok(texts.iter().map(|text| text.as_bytes().to_vec()).collect());
    match target {
        "wire" | "line" | "line-with-key" => Ok(lines()?.into_iter().map(|(_, bytes)| bytes).collect()),
        "terminal" => {
            let ends = |key: u8| move |(_, bytes): (bool, Vec<u8>)| [&[key, 40], &bytes[..]].concat();
            Ok(lines()?.into_iter().map(ends(0)).chain(lines()?.into_iter().map(ends(1))).collect())
        }
        "hl7" => Ok(laboratory::hl7_seeds()),
        "lis" => Ok(laboratory::lis_seeds()),
        "request-json" | "request-encoded" => requests().iter().map(|r| Ok(serde_json::to_vec(r)?)).collect(),
        "request-postcard" => requests().iter().map(|r| Ok(postcard::to_allocvec(r)?)).collect(),
        "outcome-json" => Ok(vec![serde_json::to_vec(&answer())?, serde_json::to_vec(&fault())?]),
        "outcome-postcard" => {
            let answer: locus_firmware_config::message::Answer = serde_json::from_value(answer())?;
            Ok(vec![postcard::to_allocvec(&answer)?, postcard::to_allocvec(&fault())?])
        }
        "names" => texts(&[
            "locus/v1/clinic/request/bed-3",
            "locus/v1/clinic/response/bed-3/7",
            r#"{"flash":"/media/a.locus"}"#,
            r#""health""#,
            r#"{"offload":{"to":"/mnt","keep":true}}"#,
            r#"{"clock":{"accept":true}}"#,
        ]),
        "bundle" => Ok(vec![archive(&bundle(false)?), archive(&bundle(true)?), vec![0; 1_024]]),
        "delta" => {
            let mut entries = bundle(true)?;
            let head = json!({"format": 1, "from": "0".repeat(64)}).to_string().into_bytes();
            entries.insert(0, ("delta.json".into(), head));
            let whole = archive(&entries);
            entries.retain(|(name, _)| name != "tokenizer.json");
            Ok(vec![whole, archive(&entries)])
        }
        "pack" => Ok(vec![archive(&pack(false)?), archive(&pack(true)?)]),
        "pack-parts" => {
            let parts = pack_parts()?;
            Ok(vec![corpus::join(&[&parts[0], &parts[1], &parts[2], &parts[4]])])
        }
        "manifest" => {
            let first = |entries: Vec<(String, Vec<u8>)>| entries.into_iter().next().map(|(_, bytes)| bytes);
            let shipped = entries(&fs::read(models().join("coding.locus"))?)?;
            Ok([bundle(false)?, pack(false)?, shipped].into_iter().filter_map(first).collect())
        }
        "tokenizer" => {
            let rna = tokenizer::RnaTokenizer::new(KmerTokenizer::new(3, 3)?, true);
            let all = [
                Tokenizer::Dna(KmerTokenizer::new(3, 1)?),
                Tokenizer::Rna(rna),
                Tokenizer::AminoAcid(tokenizer::AminoAcidTokenizer),
                Tokenizer::Smiles(tokenizer::SmilesTokenizer),
            ];
            Ok(all.iter().map(|tokenizer| tokenizer.to_json().into_bytes()).collect())
        }
        "trust" => {
            let next = TrustDocument { version: 2, ..bundles::document() };
            Ok([bundles::document(), next].map(|document| bundles::sign(document).to_json()).into())
        }
        "slots" => {
            let digest = |text: &str| Some(text.repeat(64));
            let slots = Slots { active: digest("a"), previous: digest("b"), floor: 2, ..Slots::default() };
            let record = SlotRecord { sequence: 7, ..SlotRecord::default() }.with("variant-effect", slots);
            let bytes = record.encode();
            let single = r#"LOCUSSL1{"sequence":3,"active":null,"previous":null,"trial":null,"floor":1}"#;
            Ok(vec![bytes[..bytes.len() - 4].to_vec(), bytes, single.as_bytes().to_vec()])
        }
        "journal" | "journal-open" => journals(),
        "witness" => witnesses(),
        "audit" => audits(),
        "hgvs" => texts(&[
            "t1:c.1A>G",
            "t1:c.38+1G>A",
            "t1:c.39-2del",
            "NM_000001.2:n.5dup",
            "chr1:g.1020_1022del",
            "chr1:g.1020_1021insACGT",
            "GENE1:c.*3C>T",
            "c.10_12delinsTT",
            "chrM:m.5_9inv",
            "NM_000001.2(GENE1):n.1-3A>C",
        ]),
        "variant" => {
            texts(&["chr1-1010-A-T", "chrM-5-CACAG-C", "HLA-A*01-3-A-AT", "A301G", "ACGT ACGT\nNRYK"])
        }
        "smiles" => texts(&[
            "CC(=O)Oc1ccccc1C(=O)O",
            "[13CH4]",
            "C[C@@H](N)C(=O)O",
            "C1CC%10CC1C%10",
            "[Na+].[Cl-]",
            "F/C=C\\F",
        ]),
        "reference" => Ok(vec![
            corpus::join(&[genome::FASTA.as_bytes(), genome::GFF.as_bytes()]),
            corpus::join(&[b">chr1\r\nacgtnryk\r\nACGT\r\n>chr2 words\nACGT\n", genome::GFF.as_bytes()]),
        ]),
        "fasta-indexed" => Ok(vec![corpus::join(&[
            genome::FASTA.as_bytes(),
            b"chr1:1001-1120\t120\t16\t60\t61\nchrM\t50\t144\t50\t51\n",
        ])]),
        "gff3" => texts(&[
            genome::GFF,
            "##gff-version 3\nchrX\ta\tmRNA\t1\t9\t.\t+\t.\tID=t\nchrX\ta\texon\t1\t9\t.\t+\t.\tParent=t,u\n",
        ]),
        "vcf" => texts(&[
            "##fileformat=VCFv4.3\n##INFO=<ID=AF,Number=A,Type=Float,Description=\"f\">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchr1\t1010\t.\tA\tC,<DEL>\t9\tPASS\tAF=0.1;DB\nchr1\t1011\tx\tGG\tG\t.\t.\t.\n",
        ]),
        "bed" => texts(&["chr1\t10\t20\nchr2\t0\t5\tname\t0\t+\n", "# c\ntrack name=x\nchr1\t1\t2\n"]),
        "config" => texts(&[SMALL, WHOLE]),
        "profile" => {
            let shipped = |name| Ok(toml::to_string(&DeviceProfile::named(name)?)?);
            let texts: Vec<String> = DeviceProfile::shipped().map(shipped).collect::<Result<_>>()?;
            let own = [
                "inherit = \"base\"\nengines = [\"tract\"]\n",
                "inherit = \"jetson-orin-nx\"\nbuckets = [64, 128]\n",
            ];
            Ok(texts.into_iter().chain(own.map(Into::into)).map(String::into_bytes).collect())
        }
        "keys" => keys(),
        other => anyhow::bail!("{other} has no first files"),
    }
}

const SMALL: &str = "site = \"s\"\nbox = \"b\"\nstate = \"state\"\n[models]\ntrusted_keys = [\"p.pub\"]\n[journal]\nrecipients = [\"/k/h.pub\"]\n";
const WHOLE: &str = r#"site = "clinic"
box = "box-1"
state = "/var/lib/locus"
profile = "cpu-x86"
[models]
trust = "trust.json"
confirm_after = 10
[engine]
order = ["tract"]
precision = "fp32"
intra_threads = 2
[reference]
fasta = "a.fa"
gff = "a.gff3"
assembly = "GRCh38"
[journal]
recipients = ["h.pub", "e.pub"]
keep_days = 365
[limits]
queue_units = 64
[mqtt]
mode = "external"
host = "127.0.0.1"
port = 1883
[http]
port = 8443
[[serial]]
path = "/dev/ttyS0"
terminal = "ward-3"
key_file = "line.key"
"#;

fn requests() -> Vec<Request> {
    let text = |text: &str| Some(text.to_owned());
    let sequence = Request {
        id: text("7"),
        sequence: text("ACGTACGGTCATTGCATGGCC"),
        mutation: text("A9T"),
        ..Request::default()
    };
    let spec = TranscriptSpec {
        strand: "+".into(),
        exons: vec![(1, 12), (15, 21)],
        cds: vec![(4, 12, 0), (15, 20, 0)],
    };
    let variant = Request {
        id: text("bed-3/8"),
        variant: text("chr1-1020-C-T"),
        assembly: text("GRCh38"),
        explain: Some(true),
        ..Request::default()
    };
    let named = |name: &str| Request { variant: text(name), ..variant.clone() };
    vec![
        Request { transcript: Some(spec), transcript_id: text("t"), explain: Some(true), ..sequence.clone() },
        Request { sequence: text("MKTAYIAKQR"), mutation: None, model: text("coding"), ..sequence.clone() },
        Request { subject: text("s-1"), gene: text("GENE1"), deadline_ms: Some(500), ..named("c.5A>G") },
        named("t1:c.38+1G>A"),
        named("chr1-1015-GG-G"),
        sequence,
        variant,
    ]
}

fn fault() -> Fault {
    Fault::new(FaultCode::Busy, "got 65 units of work, expected at most 64").for_id(Some("7".into()))
}

pub(crate) fn answer() -> Value {
    let around = json!({
        "gene": "GENE1", "strand": "-", "first": -1, "bases": "ACG", "track": [6, 7, 8], "removed": "C", "added": "T",
        "codons": [{"offsets": [-1, 0, 1], "bases": "ACG", "residue": "T", "number": 4, "changed_bases": "ATG", "changed_residue": "M"}],
    });
    let mut answer = json!({
        "id": "7", "box": "box-1", "mutation": "A9T", "predicted_label": 1, "predicted_description": "Pathogenic",
        "pathogenic_probability": 0.75, "benign_probability": 0.25, "prior": 0.5, "band": "uncertain", "abstained": false,
        "input_mode": "transcript", "consequence": "missense_variant", "transcript_id": "t",
        "model": {"name": "variant-effect", "version": "1.0.0", "digest": "ab".repeat(32)},
        "engine": {"provider": "tract", "precision": "fp32"},
        "timing_us": {"queue": 1, "tokenize": 2, "infer": 3, "journal": 4},
        "receipt": {"journal": "00".repeat(16), "index": 9, "leaf": "cd".repeat(32), "root": "ef".repeat(32)},
        "warnings": ["no transcript"], "intended_use": "Research use", "hgvs_c": "t:c.1A>G", "hgvs_p": "p.(Met1Val)",
        "assembly": "GRCh38", "evidence": {"criterion": "PP3", "strength": "supporting", "likelihood_ratio": 2.5},
        "out_of_distribution": false, "attribution": [{"offset": -1, "base": "A", "effect": 0.5}],
        "prediction": {"label": "a", "probabilities": [{"label": "a", "probability": 1.0}], "value": null},
    });
    answer["around"] = around;
    answer
}

/// What comes over lines: described frames, and the same as bytes.
fn lines() -> Result<Vec<(bool, Vec<u8>)>> {
    let frame = |kind: u8, session: u8, seq: u16, fragment: u8, of: u8, payload: &[u8]| {
        let [low, high] = seq.to_le_bytes();
        [&[kind, session, low, high, fragment, of, payload.len() as u8, 0], payload].concat()
    };
    let request = postcard::to_allocvec(&requests()[0])?;
    let (answer, fault): (locus_firmware_config::message::Answer, _) =
        (serde_json::from_value(answer())?, postcard::to_allocvec(&fault())?);
    let answer = postcard::to_allocvec(&answer)?;
    assert!(
        request.len() < REQUEST_BYTES && answer.len() > 240,
        "a request fits, an answer is of several parts"
    );
    let (first, second) = answer.split_at(240);
    // Seals: 0x40 by the line's key, 0x80 by the session's.
    let challenge = [&[9; 16], &b"1.0.0"[..]].concat();
    let ask = |seal: u8| {
        [
            frame(0, seal.min(1) * 0x40, 0, 0, 1, b""),
            frame(1, seal, 1, 0, 2, &request[..9]),
            frame(5, seal, 1, 0, 1, &[1]),
            frame(1, seal, 1, 1, 2, &request[9..]),
            frame(5, seal, 1, 0, 1, b""),
        ]
        .concat()
    };
    let told = |seal: u8| {
        [
            frame(0, seal.min(1) * 0x40, 0, 0, 1, &challenge),
            frame(4, seal, 1, 0, 1, b""),
            frame(2, seal, 1, 0, 2, first),
            frame(2, seal, 1, 1, 2, second),
            frame(3, seal, 1, 0, 1, &fault),
            frame(6, seal, 1, 0, 1, &[2]),
        ]
        .concat()
    };
    let busy = frame(3, 0, 1, 0, 1, &fault);
    let described = [ask(0), ask(0x80), told(0), told(0x80), busy, frame(6, 0x40, 0, 0, 1, &[1])];
    Ok(described
        .into_iter()
        .flat_map(|bytes| {
            let described = [&[1], &bytes[..]].concat();
            let written = crate::targets::stream(&described);
            [(true, described), (false, [&[0], &written[..]].concat())]
        })
        .collect())
}

fn header(name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    header
}

fn archive(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in entries {
        bytes.extend_from_slice(header(name, content.len() as u64).as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1_024, 0);
    bytes
}

fn models() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

fn entries(archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let (name, mut bytes) = (entry.path()?.display().to_string(), Vec::new());
        std::io::Read::read_to_end(&mut entry, &mut bytes)?;
        all.push((name, bytes));
    }
    Ok(all)
}

/// Parts behind their manifest, which names them, and signatures.
fn whole(mut manifest: Value, parts: Vec<(String, Vec<u8>)>, signed: bool) -> Result<Vec<(String, Vec<u8>)>> {
    let listed = parts.iter().map(|(name, bytes)| json!({"name": name, "size": bytes.len(), "sha256": hex::encode(Sha256::digest(bytes))}));
    manifest["parts"] = listed.collect();
    let manifest = serde_json::to_vec_pretty(&manifest)?;
    let mut entries = vec![("manifest.json".to_owned(), manifest)];
    if signed {
        let (key, message) = (bundles::key(1), signing_message(&Sha256::digest(&entries[0].1).into()));
        let signature = hex::encode(key.sign(&message).to_bytes());
        let id = key_id(key.verifying_key().as_bytes());
        let signatures = vec![Signature { key_id: id, algorithm: "ed25519".into(), signature }];
        entries.push(("signatures.json".into(), serde_json::to_vec(&Signatures { signatures })?));
    }
    entries.extend(parts);
    Ok(entries)
}

/// The shipped model's manifest around parts of a few bytes.
fn bundle(signed: bool) -> Result<Vec<(String, Vec<u8>)>> {
    let shipped = entries(&fs::read(models().join("variant-effect-small.locus"))?)?;
    let mut manifest: Value = serde_json::from_slice(&shipped.first().context("an empty bundle")?.1)?;
    let tokenizer = KmerTokenizer::new(3, 1)?;
    for (key, value) in [
        ("kmer", json!(3)),
        ("stride", json!(1)),
        ("vocab_size", json!(tokenizer.vocab_size())),
        ("fingerprint", json!(tokenizer.fingerprint())),
    ] {
        manifest["tokenizer"][key] = value;
    }
    let parts = [
        ("tokenizer.json", tokenizer_part()),
        ("config.json", b"{}"),
        ("golden.json", b"[]"),
        ("fp32.onnx", b"graph"),
    ];
    whole(manifest, parts.map(|(name, bytes)| (name.into(), bytes.to_vec())).into(), signed)
}

fn pack_parts() -> Result<Vec<Vec<u8>>> {
    let folder = tempfile::tempdir()?;
    let (fasta, gff) = (folder.path().join("a.fa"), folder.path().join("a.gff3"));
    fs::write(&fasta, genome::FASTA)?;
    fs::write(&gff, genome::GFF)?;
    packed::build(&fasta, &gff, folder.path())?;
    packed::PARTS.iter().map(|name| Ok(fs::read(folder.path().join(name))?)).collect()
}

fn pack(signed: bool) -> Result<Vec<(String, Vec<u8>)>> {
    let manifest = json!({
        "kind": "reference_pack", "format": 1, "name": "tiny", "version": "1.0.0", "security_counter": 1,
        "min_edge_version": "0.1.0", "assembly": "GRCh38", "records": 2, "bases": 170, "transcripts": 2, "genes": 1,
        "sources": {}, "created": "2026-01-01", "parts": [],
    });
    let parts = packed::PARTS.iter().map(|name| (*name).to_owned()).zip(pack_parts()?).collect();
    whole(manifest, parts, signed)
}

fn written(vfs: &Memory) -> Result<Vec<locus_edge::journal::Receipt>> {
    let (mut log, _) = Journal::open(Path::new(journal::DIR), journal::config(vfs, false))?;
    let mut receipts =
        log.append(&[journal::entry("{\"n\":0}", None), journal::entry("{\"n\":1}", Some("s"))])?;
    log.rotate_if_due()?;
    receipts.extend(log.append(&[journal::entry("{\"n\":2}", Some("s"))])?);
    log.close()?;
    Ok(receipts)
}

fn journals() -> Result<Vec<Vec<u8>>> {
    let (whole, torn) = (Memory::default(), Memory::default());
    written(&whole)?;
    written(&torn)?;
    let last = Path::new(journal::DIR).join(journal::FILES[2]);
    let bytes = torn.read(&last, u64::MAX)?;
    torn.put(last, &bytes[..bytes.len() - 200]);
    let case = |vfs: &Memory| journal::case_of(vfs, journal::DIR, &journal::FILES);
    Ok(vec![case(&whole), case(&torn), corpus::join(&[])])
}

fn witnesses() -> Result<Vec<Vec<u8>>> {
    let vfs = Memory::default();
    let receipts = written(&vfs)?;
    let device = journal::device_key().verifying_key();
    let proof = prove(&vfs, Path::new(journal::DIR), &device, 1, None)?;
    Ok(vec![
        serde_json::to_vec(&proof)?,
        serde_json::to_vec(&proof.checkpoint)?,
        serde_json::to_vec(receipts.first().context("a receipt")?)?,
    ])
}

fn audits() -> Result<Vec<Vec<u8>>> {
    let (vfs, folder) = (Memory::default(), "/audit");
    let clock = std::sync::Arc::new(ManualClock::new(1_790_000_000_000));
    let mut trail = Audit::open(
        std::sync::Arc::new(vfs.clone()),
        clock,
        Path::new(folder),
        journal::device_key().clone(),
    )?;
    for (what, stage) in
        [(What::Flash, Stage::Begun), (What::Flash, Stage::Done), (What::Rollback, Stage::Begun)]
    {
        trail.note(what, stage, About { subject: Some("a.locus".into()), ..About::default() })?;
    }
    drop(trail);
    let whole = journal::case_of(&vfs, folder, &journal::TRAIL);
    let [_, now]: [&[u8]; 2] = corpus::split(&whole);
    let rotated = corpus::join(&[now, &now[..now.len() / 2]]);
    Ok(vec![whole, rotated])
}

fn keys() -> Result<Vec<Vec<u8>>> {
    let key = journal::device_key();
    let recipient = journal::identity().recipient();
    Ok(vec![
        key.verifying_key().to_public_key_pem(LineEnding::LF)?.into_bytes(),
        key.to_pkcs8_pem(LineEnding::LF)?.as_bytes().to_vec(),
        recipient.to_string().into_bytes(),
        format!("# two\n{recipient}\n\n{recipient}\n").into_bytes(),
        journal::key_line("LOCUS-IDENTITY-X25519-", &[5; 32]).into_bytes(),
        journal::key_line("LOCUS-INDEX-", &[6; 32]).into_bytes(),
        "0a".repeat(32).into_bytes(),
    ])
}

#[cfg(test)]
mod tests;
