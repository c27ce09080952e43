//! The HTML report and the model card, made by the binaries from a real evaluation, in a real browser.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::Path, process::Command};

use locus_tests::{data, peer, program, root};

/// Every so many records of validation.
const ONE_IN: usize = 12;

/// Evaluates the shipped model on some of validation and writes report, page and card into `folder`.
fn evaluated(data: &Path, folder: &Path) -> (String, String) {
    let panel = data.join("panel");
    let text = |name: &str| {
        let mut out = String::new();
        std::io::Read::read_to_string(
            &mut flate2::read::MultiGzDecoder::new(fs::File::open(panel.join(name)).unwrap()),
            &mut out,
        )
        .unwrap();
        out
    };
    let mut kept = 0;
    let vcf: String = text("clinvar.GRCh38.vcf.gz")
        .lines()
        .filter(|l| {
            let val = l.contains("SPLIT=val");
            kept += usize::from(val);
            l.starts_with('#') || val && kept % ONE_IN == 0
        })
        .flat_map(|l| [l, "\n"])
        .collect();
    fs::write(folder.join("val.vcf"), vcf).unwrap();
    let bundle = folder.join("model.locus");
    fs::copy(root().join("models/variant-effect.locus"), &bundle).unwrap();
    fs::write(folder.join("pretrain.jsonl"), "{\"step\":1,\"loss\":3.1}\n{\"step\":2,\"loss\":2.4}\n")
        .unwrap();
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(program("locus")
        .args(["evaluate", "--split", "val", "--bundle"])
        .arg(&bundle)
        .arg("--fasta")
        .arg(panel.join("panel.GRCh38.fa.gz"))
        .arg("--gff")
        .arg(panel.join("panel.GRCh38.gff3.gz"))
        .arg("--floors")
        .arg(panel.join("floors.tsv.gz"))
        .arg("--vcf")
        .arg(folder.join("val.vcf"))
        .arg("--json")
        .arg(folder.join("report.json")));
    run(program("locus")
        .arg("report")
        .arg("--json")
        .arg(folder.join("report.json"))
        .arg("--html")
        .arg(folder.join("report.html"))
        .arg("--card")
        .arg(folder.join("card.md"))
        .arg("--bundle")
        .arg(&bundle)
        .arg("--run")
        .arg(folder));
    assert!(!folder.join("test-reads.jsonl").exists(), "validation is no test split");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    (read("report.html"), read("card.md"))
}

#[test]
fn the_report_opens_in_a_browser_without_an_error_and_shows_every_picture() {
    let Some(data) = data("the HTML report") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (html, card) = evaluated(&data, folder.path());
    for part in [
        "Input mode transcript",
        "Reliability",
        "ROC",
        "Confusion",
        "Loss, pretrain",
        "missense_variant",
        "PP3",
    ] {
        assert!(html.contains(part), "{part}");
    }
    for part in
        ["# Model card: variant-effect", "## Intended use", "no look at its test split", "| auroc |", "PP3"]
    {
        assert!(card.contains(part), "{part}\n{card}");
    }
    let outside = html.replace("http://www.w3.org/2000/svg", "");
    let asks = ["http:", "https:", "<script", "url(", "@import"].iter().find(|a| outside.contains(**a));
    assert_eq!(asks, None, "a page asks for nothing");
    let Some(chromium) = peer("the HTML report in a browser", "chromium") else { return };
    let screenshot = root().join("target/report.png");
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,6500"])
        .args(["--enable-logging=stderr", "--v=0", "--virtual-time-budget=2000"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("--screenshot={}", screenshot.display()))
        .arg(format!("file://{}", folder.path().join("report.html").display()))
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let errors: Vec<&str> = log.lines().filter(|l| l.contains(":CONSOLE")).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let pixels = fs::metadata(&screenshot).unwrap().len();
    assert!(pixels > 100_000, "a screenshot of {pixels} bytes shows little");
    println!("{}", screenshot.display());
}
