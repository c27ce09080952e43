//! From a recipe to the bedside on a generated panel; and a training run that is killed gives the same model.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use locus_firmware_config::message::{Outcome, Request};
use locus_genome::{ReferencePack, vcf};
use locus_tests::{Rig, program, root};
use rand::{RngExt as _, SeedableRng as _};

fn chain(folder: &Path) -> Command {
    let mut command = program("locus");
    command
        .arg("run")
        .arg(root().join("recipes/smoke.toml"))
        .arg("--out")
        .arg(folder)
        .args(["--date", "2026-11-24"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn bundle(folder: &Path) -> PathBuf {
    folder.join("smoke.locus")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_becomes_a_model_that_answers_at_the_bedside() {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let output = chain(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("recipes/smoke.toml in {:.1} s", started.elapsed().as_secs_f64());
    let panel = folder.path().join("panel");
    let evaluated = program("locus")
        .args(["evaluate", "--split", "test", "--bundle"])
        .arg(bundle(folder.path()))
        .arg("--fasta")
        .arg(panel.join("panel.fa"))
        .arg("--gff")
        .arg(panel.join("panel.gff3"))
        .arg("--vcf")
        .arg(panel.join("panel.vcf"))
        .arg("--json")
        .arg(folder.path().join("report.json"))
        .output()
        .unwrap();
    assert!(evaluated.status.success(), "{}", String::from_utf8_lossy(&evaluated.stderr));
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    let auroc = report["modes"]["transcript"]["overall"]["figures"]["auroc"]["value"].as_f64().unwrap_or(0.0);
    assert!(auroc > 0.9, "the rule of a generated panel is easy: {report}");

    let rig = Rig::new(&format!(
        "[reference]\nfasta = {:?}\ngff = {:?}\n",
        panel.join("panel.fa"),
        panel.join("panel.gff3")
    ))
    .unwrap();
    rig.sign(&bundle(folder.path()), &rig.path("smoke.locus")).unwrap();
    rig.ctl(&["init"]).unwrap();
    rig.ctl(&["flash", &rig.path("smoke.locus").display().to_string()]).unwrap();
    let daemon = rig.start().unwrap();
    let http = daemon.http("ward-1").unwrap();
    let rows: Vec<vcf::Row> =
        vcf::Reader::open(&panel.join("panel.vcf")).unwrap().collect::<Result<_, _>>().unwrap();
    assert!(ReferencePack::open(&panel.join("panel.fa"), &panel.join("panel.gff3")).is_ok());
    let (mut right, mut decided) = (0, 0);
    for row in rows.iter().filter(|row| row.info("SPLIT") == Some("test")).take(100) {
        let variant = Some(row.variant.as_ref().unwrap().to_string());
        let outcome =
            http.ask(&Request { variant, ..Request::default() }, Duration::from_secs(20)).await.unwrap();
        let Outcome::Answer(answer) = outcome else { panic!("{outcome:?}") };
        assert_eq!(answer.model.name, "smoke");
        if let Some(label) = answer.predicted_label {
            decided += 1;
            right += u32::from(Some(label.to_string().as_str()) == row.info("LABEL"));
        }
    }
    assert!(decided >= 50 && right * 10 >= decided * 9, "{right} of {decided} right");
}

#[test]
fn a_chain_that_is_killed_again_and_again_ends_with_the_same_bytes() {
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert!(chain(whole.path()).stderr(Stdio::null()).status().unwrap().success());
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(20_261_124);
    let mut kills = 0;
    loop {
        let mut child = chain(killed.path()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(rng.random_range(300..2_500)));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "it goes on from where it was killed");
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 60, "it never gets further");
    }
    println!("killed {kills} times");
    assert!(kills > 0);
    assert!(fs::read(bundle(whole.path())).unwrap() == fs::read(bundle(killed.path())).unwrap());
}
