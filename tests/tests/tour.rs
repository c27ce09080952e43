//! What newcomers follow, with the real programs: every command of the tour as it stands, and the script of the training guide.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use locus_tests::{program, root};
use serde_json::Value;

/// The blocks of a page that are to be run.
fn commands(page: &str) -> String {
    let blocks = page.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.fold(String::from("set -e\n"), |all, block| all + block + "\n")
}

/// The lines that the page shows of outputs, cut where it leaves something out.
fn shown(page: &str) -> Vec<&str> {
    let blocks = page.split("\n```text\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks
        .flat_map(str::lines)
        .flat_map(|line| line.split('…'))
        .map(str::trim)
        .filter(|part| part.len() > 3)
        .collect()
}

#[test]
fn every_command_of_the_tour_does_what_the_page_says() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["models", "docs"] {
        symlink(root().join(name), folder.path().join(name)).unwrap();
    }
    let page = fs::read_to_string(root().join("docs/tour.md")).unwrap();
    let script = commands(&page);
    assert!(script.matches("locusctl").count() > 20);
    // As `export PATH="$PWD/target/debug:$PATH"` does.
    let locusd = program("locusd");
    let programs = PathBuf::from(locusd.get_program()).parent().unwrap().to_owned();
    let path = env::join_paths([programs].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap())))
        .unwrap();
    // Where the box does not start, the page would wait for ever.
    let mut bash = Command::new("timeout");
    for (name, value) in locusd.get_envs() {
        bash.env(name, value.unwrap());
    }
    // A box that is left over when a command fails ends with the script.
    let script = format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}");
    let output =
        bash.args(["300", "bash", "-c", &script]).env("PATH", path).current_dir(&folder).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    // Without ONNX Runtime another engine answers.
    for part in shown(&page).into_iter().filter(|part| !part.contains("CPUExecutionProvider")) {
        let numbers = part.starts_with(['+', '-']);
        assert!(numbers || out.contains(part) || err.contains(part), "{part:?} is not in {out}\n{err}");
    }
    let read = |name: &str| fs::read_to_string(folder.path().join("tour").join(name)).unwrap();

    let answer = read("answer.txt");
    for word in
        ["computational prediction", "at a prior of", "stop_gained", "variant-effect", "not a diagnosis"]
    {
        assert!(answer.contains(word), "{word}: {answer}");
    }
    let whole: Value = serde_json::from_str(&read("answer.json")).unwrap();
    assert_eq!((&whole["id"], &whole["band"]), (&"tour-1".into(), &"pathogenic".into()));
    assert_eq!(out.matches("refused, exit code 1").count(), 2, "{out}\n{err}");
    assert!(read("why.txt").lines().count() >= answer.lines().count() + 20, "{}", read("why.txt"));

    let records = |name: &str| -> Vec<Value> {
        read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (before, after) = (records("results.jsonl"), records("after.jsonl"));
    let ids = |records: &[Value]| -> Vec<String> {
        records.iter().filter_map(|r| r["record"]["request"]["id"].as_str().map(str::to_owned)).collect()
    };
    assert!(
        ids(&before).contains(&"tour-1".to_owned()) && ids(&before).contains(&"tour-2".to_owned()),
        "{before:?}"
    );
    assert_eq!(ids(&before).iter().filter(|id| *id == "tour-1").count(), 1, "one question, one record");
    assert!(!ids(&after).iter().any(|id| id.starts_with("tour-")), "{after:?}");
    assert!(read("results.csv").lines().count() > before.len() - 1);

    // The small model is there on trial, and gone after.
    let slots: Vec<&str> = out.split("variant-effect-small").collect();
    assert!(slots.len() > 2, "{out}");
    for word in ["trial", "revert", "flash"] {
        assert!(out.contains(word), "{word}: {out}");
    }
}

/// A file in gzip, as NCBI's are.
fn packed(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file =
        flate2::write::GzEncoder::new(fs::File::create(path).unwrap(), flate2::Compression::fast());
    file.write_all(text.as_bytes()).unwrap();
    file.finish().unwrap();
}

/// 3,000 bases in which nothing repeats soon.
fn bases() -> String {
    let mut state = 7_u32;
    let draw = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"ACGT"[(state >> 24) as usize % 4] as char
    };
    (0..3_000).map(draw).collect()
}

#[test]
fn the_panel_of_the_training_guide_is_made_of_files_like_those_of_ncbi_and_locus_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // Chromosomes 1, 2 and 7, a scaffold, the mitochondrion; lines of the report end as NCBI's do.
    let chromosomes = [("1", "NC_000001.11"), ("2", "NC_000002.12"), ("7", "NC_000007.14")];
    let mut report = String::from("# Assembly name:  GRCh38.p14\r\n");
    let (mut fasta, mut gff) = (String::new(), String::from("##gff-version 3\n#!gff-spec-version 1.21\n"));
    let mut vcf = String::from(
        "##fileformat=VCFv4.1\n##reference=GRCh38\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n",
    );
    let sequence = bases();
    let variant = |chromosome: &str, position: usize, gene: &str, info: &str| {
        let was = sequence.as_bytes()[position - 1] as char;
        let is = if was == 'A' { 'C' } else { 'A' };
        format!(
            "{chromosome}\t{position}\t{position}\t{was}\t{is}\t.\t.\tALLELEID=1;{info};GENEINFO={gene}:1|OTHER:2;MC=x\n"
        )
    };
    let good = "CLNREVSTAT=criteria_provided,_multiple_submitters,_no_conflicts;ORIGIN=1";
    for (name, accession) in chromosomes {
        report += &format!(
            "{name}\tassembled-molecule\t{name}\tChromosome\tCM\t=\t{accession}\tPrimary Assembly\t3000\tchr{name}\r\n"
        );
        fasta += &format!(
            ">{accession} Homo sapiens chromosome {name}, GRCh38.p14 Primary Assembly\n{}\n",
            sequence.to_lowercase()
        );
        let row = |kind: &str, from: usize, to: usize, phase: &str, more: &str| {
            format!("{accession}\tBestRefSeq\t{kind}\t{from}\t{to}\t.\t+\t{phase}\t{more}\n")
        };
        let gene = format!("GENE{name}");
        gff += &row("region", 1, 3_000, ".", "ID=whole");
        gff += &row("gene", 901, 1_500, ".", &format!("ID=gene-{gene};Name={gene}"));
        for (id, tag) in [("NM_000001.1", ";tag=MANE Select"), ("XM_000009.1", "")] {
            let transcript = format!("ID=rna-{id};Parent=gene-{gene};transcript_id={id}{tag}");
            gff += &row("mRNA", 901, 1_500, ".", &transcript);
            gff += &row("exon", 901, 1_500, ".", &format!("ID=exon-{id};Parent=rna-{id};transcript_id={id}"));
            gff += &row("CDS", 901, 1_500, "0", &format!("ID=cds-{id};Parent=rna-{id}"));
        }
        for position in (905..1_495).step_by(10) {
            let significance = if position % 4 == 1 { "Pathogenic/Likely_pathogenic" } else { "Benign" };
            vcf += &variant(name, position, &gene, &format!("CLNSIG={significance};{good}"));
        }
        // None of these is taken.
        vcf += &variant(name, 906, &gene, &format!("CLNSIG=Uncertain_significance;{good}"));
        vcf += &variant(name, 907, &gene, &format!("CLNSIG=Pathogenic|drug_response;{good}"));
        vcf += &variant(
            name,
            908,
            &gene,
            "CLNSIG=Pathogenic;CLNREVSTAT=no_assertion_criteria_provided;ORIGIN=2",
        );
        vcf += &format!("{name}\t909\t9\tAC\tA\t.\t.\tCLNSIG=Pathogenic;{good};GENEINFO={gene}:1\n");
    }
    report +=
        "MT\tassembled-molecule\tMT\tMitochondrion\tJ01415.2\t=\tNC_012920.1\tnon-nuclear\t16569\tchrM\r\n";
    report += "HSCHR1_1\tunlocalized-scaffold\t1\tChromosome\tKI\t=\tNT_187361.1\tPrimary Assembly\t9\tchr1_KI270706v1_random\r\n";
    fasta += ">NT_187361.1 a scaffold\nACGTACGTA\n";
    fs::write(at("report.txt"), report).unwrap();
    packed(&at("genome.fna.gz"), &fasta);
    packed(&at("genomic.gff.gz"), &gff);
    packed(&at("clinvar.vcf.gz"), &vcf);
    let output = Command::new(root().join("docs/examples/panel.sh"))
        .args(["clinvar.vcf.gz", "report.txt", "genome.fna.gz", "genomic.gff.gz", "panel"])
        .current_dir(&folder)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    // 59 positions, of which every second is 1 more than a multiple of 4.
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        [
            "test: 29 benign",
            "test: 30 pathogenic",
            "train: 29 benign",
            "train: 30 pathogenic",
            "val: 29 benign",
            "val: 30 pathogenic"
        ]
    );
    let read = |name: &str| fs::read_to_string(at("panel").join(name)).unwrap();
    assert_eq!(read("genome.fa").matches('>').count(), 3);
    assert!(read("genome.fa").starts_with(">chr1\n"));
    assert!(!read("genes.gff3").contains("XM_") && read("genes.gff3").contains("chr7\t"));
    assert!(read("variants.vcf").contains("GENE=GENE1;LABEL=1;STARS=2;SPLIT=train"));

    let recipe = fs::read_to_string(root().join("recipes/variant-effect.toml")).unwrap();
    let lines = recipe.lines().filter(|line| !line.starts_with("floors"));
    let changed = lines.map(|line| match line.split(" = ").next().unwrap() {
        "root" => "root = \"panel\"".to_owned(),
        "fasta" => "fasta = \"genome.fa\"".to_owned(),
        "gff3" => "gff3 = \"genes.gff3\"".to_owned(),
        "vcf" => "vcf = \"variants.vcf\"".to_owned(),
        _ => line.to_owned(),
    });
    fs::write(at("mine.toml"), changed.collect::<Vec<_>>().join("\n")).unwrap();
    let prepared = program("locus")
        .args(["prepare", "mine.toml", "--out", "runs/mine"])
        .env_remove("LOCUS_DATA")
        .current_dir(&folder)
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&prepared.stdout), String::from_utf8_lossy(&prepared.stderr));
    assert!(prepared.status.success(), "{said}");
    for split in ["train", "test"] {
        assert!(said.contains(&format!("\"{split}\": 59.0")), "{said}");
    }
}
