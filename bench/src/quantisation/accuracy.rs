//! What a smaller or coarser graph costs, on the records of a split.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use locus_host::{
    evaluate::{Read, Reads},
    metrics::auroc,
};
use locus_tests::{program, root};

use super::Figures;

/// A row of what `locus score` writes.
struct Scored {
    probability: f64,
    decision: String,
    pathogenic: bool,
}

pub(super) fn data(name: &str) -> PathBuf {
    std::env::var_os("LOCUS_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from).join(name)
}

/// The records of a split, in a file of their own.
pub(crate) fn records(split: &str, folder: &Path, most: usize) -> Result<PathBuf> {
    let path = folder.join(format!("{split}.{most}.vcf"));
    let gz = fs::File::open(data("panel/clinvar.GRCh38.vcf.gz"))?;
    let text = std::io::read_to_string(flate2::read::MultiGzDecoder::new(gz))?;
    let of_split = format!("SPLIT={split}");
    let all: Vec<&str> = text.lines().filter(|l| l.contains(&of_split)).collect();
    let step = (all.len() / most).max(1);
    let header = text.lines().filter(|l| l.starts_with('#'));
    let lines: Vec<&str> = header.chain(all.into_iter().step_by(step).take(most)).collect();
    fs::write(&path, lines.join("\n") + "\n")?;
    Ok(path)
}

/// `locus score` of a shipped model in one precision.
fn scored(model: &str, split: &str, precision: &str, folder: &Path) -> Result<Vec<Scored>> {
    let out = folder.join(format!("{model}.{split}.{precision}.tsv"));
    let mut command = program("locus");
    command.args(["score", "--precision", precision, "--bundle", &format!("models/{model}.locus")]);
    command.current_dir(root()).arg("--out").arg(&out);
    let labels: Vec<bool>;
    if model.starts_with("variant-effect") {
        let vcf = records(split, folder, usize::MAX)?;
        let text = fs::read_to_string(&vcf)?;
        labels = text.lines().filter(|l| !l.starts_with('#')).map(|l| l.contains("LABEL=1")).collect();
        command.arg("--fasta").arg(data("panel/panel.GRCh38.fa.gz"));
        command.arg("--gff").arg(data("panel/panel.GRCh38.gff3.gz")).arg("--vcf").arg(vcf);
    } else {
        labels = Vec::new();
        command.arg("--fasta").arg(data(&format!("coding/human_exon_vs_noncoding.{split}.fa.gz")));
    }
    ensure!(command.output()?.status.success(), "{command:?} failed");
    let text = fs::read_to_string(out)?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let column =
        |name: &str| header.iter().position(|h| *h == name).with_context(|| format!("column {name}"));
    let (probability, status) = (column("probability")?, column("status")?);
    let decision = column(if model == "coding" { "label" } else { "band" })?;
    let mut all = Vec::new();
    for (n, line) in lines.enumerate() {
        let cells: Vec<&str> = line.split('\t').collect();
        if cells[status] != "ok" {
            continue;
        }
        let (named, decision) = (cells[0], cells[decision].to_owned());
        let pathogenic = labels.get(n).copied().unwrap_or_else(|| named.starts_with("coding"));
        let mut probability: f64 = cells[probability].parse()?;
        if model == "coding" && decision != "coding" {
            probability = 1.0 - probability;
        }
        all.push(Scored { probability, decision, pathogenic });
    }
    Ok(all)
}

fn area(rows: &[Scored]) -> Result<f64> {
    let (p, l): (Vec<f64>, Vec<bool>) = rows.iter().map(|r| (r.probability, r.pathogenic)).unzip();
    auroc(&p, &l).context("AUROC")
}

/// What the distilled model costs on validation, both in INT8.
pub(super) fn smaller(figures: &mut Figures, folder: &Path) -> Result<()> {
    let [large, small] =
        ["variant-effect", "variant-effect-small"].map(|model| scored(model, "val", "int8", folder));
    let (large, small) = (large?, small?);
    ensure!(large.len() == small.len(), "the models answer other records");
    let loss = area(&large)? - area(&small)?;
    let name = "AUROC that variant-effect-small loses against variant-effect, INT8, val";
    figures.add(name.into(), loss, "", format!("{} records", large.len()), "bar 0.005");
    Ok(())
}

/// What INT8 costs on a split.
pub(super) fn accuracy(figures: &mut Figures, model: &str, split: &str, folder: &Path) -> Result<()> {
    let (float, whole) = (scored(model, split, "fp32", folder)?, scored(model, split, "int8", folder)?);
    ensure!(float.len() == whole.len(), "{model}: other records in INT8");
    if split == "test" {
        let set = if model == "coding" {
            "coding/human_exon_vs_noncoding.test.fa.gz"
        } else {
            "panel/clinvar.GRCh38.vcf.gz"
        };
        let read =
            Read::now(split, &locus_host::files::sha256(&data(set))?, &format!("{model}, INT8 against FP32"));
        Reads::at(&root().join("models/test-reads.jsonl")).add(&read)?;
    }
    let loss = area(&float)? - area(&whole)?;
    let flips = float.iter().zip(&whole).filter(|(a, b)| a.decision != b.decision).count();
    let records = float.len();
    let name = format!("{model}, {split}");
    figures.add(
        format!("AUROC that INT8 loses, {name}"),
        loss,
        "",
        format!("{records} records"),
        "bar 0.002",
    );
    figures.add(
        format!("decisions that INT8 changes, {name}"),
        100.0 * flips as f64 / records as f64,
        "%",
        format!("{flips} of {records}"),
        "bar 0.3",
    );
    Ok(())
}
