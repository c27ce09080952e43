//! The table of targets, and what they share.

pub(crate) mod bundles;
pub(crate) mod genome;
pub(crate) mod journal;
pub(crate) mod laboratory;
mod messages;
mod serial;
mod settings;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::Target;

const MIB: usize = 1 << 20;
const JSON: &[&str] =
    &["{", "}", "[", "]", "[[[[[[[[", "{\"a\":", "\"", "\\u0000", "\\ud800", ":", ",", "null", "true"];
const REQUEST: &[&str] = &[
    "\"id\":",
    "\"sequence\":",
    "\"mutation\":",
    "\"variant\":",
    "\"subject\":",
    "\"model\":",
    "\"assembly\":",
    "\"gene\":",
    "\"transcript_id\":",
    "\"lane\":",
    "\"deadline_ms\":",
    "\"explain\":true",
    "\"transcript\":",
    "\"strand\":\"-\"",
    "\"exons\":[[",
    "\"cds\":[[",
    "ACGTACGTACGTACGT",
    "chr1-1010-",
    "chrM-1-G-A",
    "NM_000001.2:c.",
];
const HGVS: &[&str] = &[
    "t1:",
    "c.",
    "n.",
    "g.",
    "p.",
    "chr1:g.",
    "NM_000001.2",
    "(GENE1)",
    "GENE1:",
    "del",
    "ins",
    "dup",
    "inv",
    "delins",
    ">",
    "_",
    "+",
    "-",
    "*",
    "?",
    "=",
    "1013",
    "1050",
    "1061",
];
const TAR: &[&str] = &[
    "ustar\u{0}00",
    "manifest.json",
    "signatures.json",
    "tokenizer.json",
    "delta.json",
    "fp32.onnx",
    "00000000000",
];
const GFF: &[&str] = &[
    "\tgene\t",
    "\tmRNA\t",
    "\texon\t",
    "\tCDS\t",
    "ID=",
    "Parent=",
    "Name=",
    ";",
    ",",
    "%09",
    "##FASTA\n",
    "\t-\t",
    "\t0\t",
];
const VCF: &[&str] = &[
    "##fileformat=VCFv4.3\n",
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n",
    "##INFO=<ID=",
    "\t",
    "<DEL>",
    "*",
    "]chr1:1]A",
    ";AF=0.1",
];
const TOML: &[&str] = &[
    "[mqtt]\n",
    "[http]\n",
    "[[serial]]\n",
    "[journal]\n",
    "[limits]\n",
    "[engine]\n",
    " = ",
    "\"\"\"",
    "inherit = \"base\"\n",
    "1970-01-01",
    "inf",
    "{ a = 1 }",
    "[[",
    "0x",
];
const PEM: &[&str] = &[
    "-----BEGIN PUBLIC KEY-----\n",
    "-----END PUBLIC KEY-----\n",
    "-----BEGIN PRIVATE KEY-----\n",
    "locus-recipient-x25519-",
    "LOCUS-IDENTITY-X25519-",
    "LOCUS-INDEX-",
    "# ",
    "\n\n",
];
const HL7: &[&str] = &[
    "MSH|^~\\&|",
    "ORU^R01^ORU_R01",
    "ACK^R01",
    "\rMSA|AA|m-1",
    "\rPID|1||12^^^H",
    "\rOBR|1|p|f|",
    "\rOBX|1|CWE|48004-6^c^LN||",
    "48018-6^Gene^LN",
    "variant^v^99LOCUS",
    "62374-4^a^LN",
    "\\F\\",
    "\\X0D\\",
    "\u{b}",
    "\u{1c}\r",
    "UNICODE UTF-8",
    "chr1-1015-G-A",
    "t1:c.12T>A",
];
const LIS: &[&str] = &[
    "H|\\^&|",
    "\rP|1|12",
    "\rO|1|s-1||",
    "\rR|1|^^^48004-6|t1:c.12T>A",
    "\rR|2|^^^variant|chr1-1015-G-A",
    "\rL|1|N\r",
    "\u{5}",
    "\u{4}",
    "\u{2}1",
    "\u{3}00\r\n",
    "\u{17}00\r\n",
    "&F&",
    "\u{6}",
    "\u{15}",
];
const SMILES: &[&str] =
    &["[", "]", "(", ")", "%10", "1", "=", "#", "[C@@H]", "[13CH4-]", "Cl", ".", "/", "(((((((("];

macro_rules! target {
    ($name:literal, $run:path, $longest:expr, $memory:expr, $words:expr) => {
        Target { name: $name, run: $run, longest: $longest, memory: $memory, words: $words }
    };
}

/// Every target.
pub const TARGETS: &[Target] = &[
    target!("wire", serial::wire, 16 << 10, 2 * MIB, &[]),
    target!("line", serial::line, 16 << 10, 8 * MIB, &[]),
    target!("line-with-key", serial::line_with_key, 16 << 10, 8 * MIB, &[]),
    target!("terminal", serial::terminal, 16 << 10, MIB, &[]),
    target!("hl7", laboratory::hl7, 64 << 10, 8 * MIB, HL7),
    target!("lis", laboratory::lis, 64 << 10, 8 * MIB, LIS),
    target!("request-json", messages::request_json, 64 << 10, 8 * MIB, REQUEST),
    target!("request-postcard", messages::request_postcard, 64 << 10, 8 * MIB, &[]),
    target!("request-encoded", messages::encoded, 64 << 10, 16 * MIB, REQUEST),
    target!("outcome-json", messages::outcome_json, 64 << 10, 8 * MIB, JSON),
    target!("outcome-postcard", messages::outcome_postcard, 64 << 10, 8 * MIB, &[]),
    target!(
        "names",
        messages::names,
        4 << 10,
        MIB,
        &["locus/v1/", "clinic", "/request/", "/response/", "{\"flash\":", "{\"offload\":{\"to\":", "#", "+"]
    ),
    target!("bundle", bundles::bundle, 64 << 10, 4 * MIB, TAR),
    target!("delta", bundles::delta, 64 << 10, 8 * MIB, TAR),
    target!("pack", bundles::pack, 64 << 10, 4 * MIB, TAR),
    target!("pack-parts", genome::parts, 64 << 10, 4 * MIB, &[]),
    target!("manifest", bundles::manifest, 32 << 10, 4 * MIB, JSON),
    target!("tokenizer", bundles::tokenizer, 32 << 10, 16 * MIB, JSON),
    target!("trust", bundles::trust, 80 << 10, 4 * MIB, JSON),
    target!("slots", bundles::slots, 32 << 10, 4 * MIB, JSON),
    target!("journal", journal::journal, 32 << 10, 8 * MIB, JSON),
    target!("journal-open", journal::journal_open, 32 << 10, 8 * MIB, JSON),
    target!("witness", journal::witness, 32 << 10, 4 * MIB, JSON),
    target!("audit", journal::audit, 32 << 10, 8 * MIB, JSON),
    target!("hgvs", genome::names, 4 << 10, 4 * MIB, HGVS),
    target!("variant", genome::variants, 8 << 10, MIB, &["chr1-", "-A-T", "-1010-", "A301G", "acgtu"]),
    target!("smiles", genome::molecules, 8 << 10, 4 * MIB, SMILES),
    target!("reference", genome::references, 16 << 10, 64 * MIB, GFF),
    target!(
        "fasta-indexed",
        genome::indexed,
        16 << 10,
        64 * MIB,
        &["chr1:1001-1120", "\t60\t61\n", "\n", ">"]
    ),
    target!("gff3", genome::transcripts, 16 << 10, 64 * MIB, GFF),
    target!("vcf", genome::variant_file, 16 << 10, 64 * MIB, VCF),
    target!("bed", genome::intervals, 16 << 10, 64 * MIB, &["chr1\t", "\t", "track ", "browser ", "#"]),
    target!("config", settings::config, 16 << 10, 8 * MIB, TOML),
    target!("profile", settings::profile, 16 << 10, 8 * MIB, TOML),
    target!("keys", settings::keys, 8 << 10, 4 * MIB, PEM),
];

/// What described frames are on the way to a box.
pub(crate) fn stream(bytes: &[u8]) -> Vec<u8> {
    serial::stream(bytes, locus_firmware_config::wire::Direction::ToBox)
}

/// A target by its name.
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// A folder of this process in memory, where there is one.
fn scratch(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = parent.join(format!("locus-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder in memory");
        folder
    });
    let path = folder.join(name);
    if !name.contains('.') {
        fs::create_dir_all(&path).expect("a folder in memory");
    }
    path
}

/// A file of these bytes, for what reads files alone.
fn on_disk(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch("files").join(name);
    let file =
        File::options().create(true).write(true).truncate(false).open(&path).expect("a file in memory");
    file.set_len(bytes.len() as u64).expect("its length");
    file.write_all_at(bytes, 0).expect("its bytes");
    path
}

/// Removes what the targets of this process wrote.
pub fn clean() {
    let _ = fs::remove_dir_all(scratch("files").parent().expect("it has one"));
}
