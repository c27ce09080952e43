//! Figures, calibration and alignments before scikit-learn and Biopython, on drawn and tied scores.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    io::Write,
    process::{Command, Stdio},
};

use locus_host::{
    align::{Scoring, align},
    calibrate::isotonic,
    metrics::{
        Average, ClassCounts, Confusion, argmax, aupr, auroc, auroc_one_vs_rest, brier, log_loss, mae, mse,
        pearson, pr_curve, r_squared, roc_curve, spearman,
    },
};
use locus_tests::python;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

const PACKAGES: [&str; 4] = ["scikit-learn==1.7.2", "numpy==2.3.5", "scipy==1.16.3", "biopython==1.86"];
/// Both sides add up in another order.
const TOLERANCE: f64 = 1e-9;
const SCRIPT: &str = r#"
import json, sys
import numpy as np, sklearn.metrics as m, scipy.stats as st
from sklearn.isotonic import IsotonicRegression
from Bio.Align import PairwiseAligner, substitution_matrices
d = json.load(sys.stdin)
s, y = np.array(d["scores"]), np.array(d["labels"])
c = y * 0 + (s > 0.5)
out = {"auroc": m.roc_auc_score(y, s), "aupr": m.average_precision_score(y, s), "mcc": m.matthews_corrcoef(y, c),
       "precision": m.precision_score(y, c), "sensitivity": m.recall_score(y, c), "f1": m.f1_score(y, c),
       "accuracy": m.accuracy_score(y, c), "brier": m.brier_score_loss(y, s), "log_loss": m.log_loss(y, s)}
f, t, _ = m.roc_curve(y, s, drop_intermediate=False)
p, r, _ = m.precision_recall_curve(y, s)
out["roc"] = [f.tolist(), t.tolist()]
out["pr"] = [r[:-1][::-1].tolist(), p[:-1][::-1].tolist()]
P, T = np.array(d["probabilities"]), np.array(d["truth"])
C = P.argmax(1)
out.update({"balanced": m.balanced_accuracy_score(T, C), "class_mcc": m.matthews_corrcoef(T, C),
    "ovr": m.roc_auc_score(T, P, multi_class="ovr", average="macro")})
for a in ("macro", "micro"):
    out["precision_" + a] = m.precision_score(T, C, average=a, zero_division=0)
    out["recall_" + a] = m.recall_score(T, C, average=a, zero_division=0)
    out["f1_" + a] = m.f1_score(T, C, average=a, zero_division=0)
a, b = np.array(d["predicted"]), np.array(d["numbers"])
out.update({"mse": m.mean_squared_error(b, a), "mae": m.mean_absolute_error(b, a), "r2": m.r2_score(b, a),
    "pearson": st.pearsonr(a, b).statistic, "spearman": st.spearmanr(a, b).statistic})
out["isotonic"] = IsotonicRegression().fit_transform(s, y).tolist()
scores = []
for one, two, protein in d["pairs"]:
    g = PairwiseAligner(mode="global")
    if protein:
        g.substitution_matrix = substitution_matrices.load("BLOSUM62"); g.open_gap_score, g.extend_gap_score = -12, -1
    else:
        g.match_score, g.mismatch_score, g.open_gap_score, g.extend_gap_score = 2, -3, -7, -2
    scores.append(g.score(one, two))
out["alignments"] = scores
json.dump(out, sys.stdout)
"#;

fn ask(python: &std::path::Path, input: &Value) -> Value {
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn close(name: &str, got: f64, expected: f64) {
    assert!((got - expected).abs() <= TOLERANCE, "{name}: got {got}, expected {expected}");
}

fn close_all(name: &str, got: impl IntoIterator<Item = f64>, expected: &[f64]) {
    let got: Vec<f64> = got.into_iter().collect();
    assert_eq!(got.len(), expected.len(), "{name}");
    got.iter().zip(expected).for_each(|(g, e)| close(name, *g, *e));
}

#[test]
fn figures_steps_and_alignment_scores_are_those_of_scikit_learn_and_biopython() {
    let import = "import sklearn, numpy, scipy, Bio";
    let Some(python) = python("metrics", &PACKAGES, import) else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    // Scores of two digits, so that many are tied.
    let scores: Vec<f64> = (0..900).map(|_| f64::from(rng.random_range(1..100)) / 100.0).collect();
    let labels: Vec<bool> = scores.iter().map(|s| rng.random_bool(0.15 + 0.7 * s)).collect();
    let truth: Vec<usize> = (0..600).map(|_| rng.random_range(0..4)).collect();
    let probabilities: Vec<Vec<f64>> = truth
        .iter()
        .map(|&t| {
            let raw: Vec<f64> =
                (0..4).map(|c| rng.random_range(0.01..1.0) + if c == t { 0.4 } else { 0.0 }).collect();
            let sum: f64 = raw.iter().sum();
            raw.iter().map(|v| v / sum).collect()
        })
        .collect();
    let measured: Vec<f64> = (0..300).map(|_| f64::from(rng.random_range(-20..20)) / 4.0).collect();
    let predicted: Vec<f64> = measured.iter().map(|v| v * 0.7 + rng.random_range(-2.0..2.0)).collect();
    let mut pairs = Vec::new();
    for n in 0..40 {
        let letters: &[u8] = if n % 2 == 0 { b"ACGT" } else { b"ARNDCQEGHILKMFPSTWYV" };
        let mut draw = |most: usize| -> String {
            (0..rng.random_range(1..most))
                .map(|_| char::from(letters[rng.random_range(0..letters.len())]))
                .collect()
        };
        let (one, piece) = (draw(120), draw(20));
        let cut = one.len() / 3;
        pairs.push((one.clone(), format!("{}{piece}{}", &one[..cut], &one[2 * cut..]), n % 2 == 1));
    }
    let input = json!({
        "scores": scores, "labels": labels.iter().map(|&l| u8::from(l)).collect::<Vec<_>>(),
        "probabilities": probabilities, "truth": truth, "predicted": predicted, "numbers": measured, "pairs": pairs,
    });
    let expected = ask(&python, &input);
    let of = |name: &str| expected[name].as_f64().unwrap_or_else(|| panic!("{name}: {}", expected[name]));

    let c = Confusion::at(&scores, &labels, 0.5);
    for (name, got) in [
        ("auroc", auroc(&scores, &labels)),
        ("aupr", aupr(&scores, &labels)),
        ("mcc", c.mcc()),
        ("precision", c.precision()),
        ("sensitivity", c.sensitivity()),
        ("f1", c.f1()),
        ("accuracy", c.accuracy()),
        ("brier", brier(&scores, &labels)),
        ("log_loss", log_loss(&scores, &labels)),
        ("mse", mse(&predicted, &measured)),
        ("mae", mae(&predicted, &measured)),
        ("r2", r_squared(&predicted, &measured)),
        ("pearson", pearson(&predicted, &measured)),
        ("spearman", spearman(&predicted, &measured)),
        ("ovr", auroc_one_vs_rest(&probabilities, &truth)),
    ] {
        close(name, got.unwrap(), of(name));
    }
    let counts = ClassCounts::of(truth.iter().zip(&probabilities).map(|(&t, p)| (t, argmax(p))), 4);
    close("balanced", counts.balanced_accuracy().unwrap(), of("balanced"));
    close("class_mcc", counts.mcc().unwrap(), of("class_mcc"));
    for (name, average) in [("macro", Average::Macro), ("micro", Average::Micro)] {
        close(name, counts.precision(average).unwrap(), of(&format!("precision_{name}")));
        close(name, counts.recall(average).unwrap(), of(&format!("recall_{name}")));
        close(name, counts.f1(average).unwrap(), of(&format!("f1_{name}")));
    }
    let (roc, pr) = (roc_curve(&scores, &labels), pr_curve(&scores, &labels));
    close_all("roc x", roc.iter().map(|p| p.0), &numbers(&expected["roc"][0]));
    close_all("roc y", roc.iter().map(|p| p.1), &numbers(&expected["roc"][1]));
    close_all("pr x", pr.iter().map(|p| p.0), &numbers(&expected["pr"][0]));
    close_all("pr y", pr.iter().map(|p| p.1), &numbers(&expected["pr"][1]));
    let steps = isotonic(&scores, &labels, (1.0, 1.0)).unwrap();
    // The steps here stay half a record away from 0 and 1.
    for (s, e) in scores.iter().zip(numbers(&expected["isotonic"])) {
        let got = steps.probability(*s);
        assert!(
            (got - e).abs() < 1e-9 || (!(0.05..0.95).contains(&e) && (got - e).abs() < 0.05),
            "{s}: {got}, {e}"
        );
    }
    for ((one, two, protein), score) in pairs.iter().zip(numbers(&expected["alignments"])) {
        let scoring = if *protein { Scoring::PROTEIN } else { Scoring::NUCLEOTIDE };
        let got = align(one.as_bytes(), two.as_bytes(), &scoring).score as f64;
        assert_eq!(got, score, "{one} {two}");
    }
}
