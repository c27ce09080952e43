//! The model card (Mitchell et al. 2019) in Markdown, from a report and the bundle's manifest.

use std::fmt::Write;

use locus_firmware_config::manifest::{Manifest, ModeCalibration};

use super::{
    Group, ModeReport, Read, SequenceReport,
    html::{AnyReport, figure_table, first_words, floor_table, sequence_table, strata_table, strength_table},
};
use crate::{Result, commands::evaluate::Report};

/// The card of the model that `json`, a report of `locus evaluate`, is about. `manifest` is of its bundle; `reads`
/// are all looks at test splits that are known.
///
/// # Errors
/// JSON that is no report.
pub fn card(json: &str, manifest: Option<&Manifest>, reads: &[Read]) -> Result<String> {
    let report = AnyReport::parse(json)?;
    let (model, data, split) = match &report {
        AnyReport::Variant(r) => (&r.model, &r.data, &r.split),
        AnyReport::Sequence(r) => (&r.model, &r.data, &r.split),
    };
    let mut out = format!("# Model card: {}\n", first_words(model));
    if let Some(manifest) = manifest {
        details(&mut out, manifest);
    }
    intended(&mut out, &report);
    looks(&mut out, reads, data, split);
    match &report {
        AnyReport::Variant(r) => variant(&mut out, r, manifest),
        AnyReport::Sequence(r) => sequence(&mut out, r),
    }
    limits(&mut out, &report);
    Ok(out)
}

fn section(out: &mut String, heading: &str, text: &str) {
    let _ = write!(out, "\n## {heading}\n\n{text}");
    if !text.is_empty() {
        out.push('\n');
    }
}

fn details(out: &mut String, m: &Manifest) {
    section(out, "Model", "");
    let p = &m.provenance;
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "- {name}: {value}");
    };
    row("name and version", format!("{} {}", m.name, m.version));
    row("labels", m.labels.join(", "));
    row("made", format!("{}, seed {}", p.created, p.seed));
    row("recipe", format!("SHA-256 `{}`", p.recipe_sha256));
    if let Some(source) = &p.source {
        row("code", source.clone());
    }
    for (name, digest) in &p.data {
        row(&format!("data file `{name}`"), format!("SHA-256 `{digest}`"));
    }
}

fn intended(out: &mut String, report: &AnyReport) {
    let text = match report {
        AnyReport::Variant(_) => {
            "Whether a single-base variant is pathogenic, as one line of computational evidence (PP3, BP4) beside others, \
             for people who interpret variants. Not for diagnosis by itself, not for somatic variants, and not for \
             what lies outside the scope of its manifest, where it abstains."
        }
        AnyReport::Sequence(_) => {
            "What a whole sequence is, for people who annotate or screen sequences of the kind that it was trained on. \
             Not for diagnosis, and not for other alphabets, lengths or organisms than those it was evaluated on."
        }
    };
    section(out, "Intended use", text);
}

fn looks(out: &mut String, reads: &[Read], data: &str, split: &str) {
    section(out, "Data, and how often test was read", "");
    let _ = writeln!(out, "- evaluated on: split `{split}` of the labelled file with SHA-256 `{data}`");
    let tests: Vec<&Read> = reads.iter().filter(|r| r.data == data).collect();
    let _ = match (tests.first(), tests.last()) {
        (Some(first), Some(last)) => writeln!(
            out,
            "- its test split was read {} times, by {} models, from {} to {}",
            tests.len(),
            tests.iter().map(|r| &r.model).collect::<std::collections::BTreeSet<_>>().len(),
            first.time,
            last.time
        ),
        _ => writeln!(out, "- no look at its test split is on record"),
    };
}

fn variant(out: &mut String, r: &Report, manifest: Option<&Manifest>) {
    for (mode, m) in r.modes.iter().rev() {
        section(out, &format!("Figures, input mode {mode}"), &format!("{} ({}).", r.intervals, r.engine));
        let groups = [("all", &m.overall), ("missense", &m.missense)];
        let _ = writeln!(out, "\n{}", figure_table("", &groups).markdown());
        let _ = writeln!(out, "Beside the baselines (AUROC):\n\n{}", floor_table(&groups).markdown());
        let calibration = manifest.and_then(|m| m.probability.modes.get(mode));
        probabilities(out, m, calibration);
        for (what, strata) in [("consequence", &m.by_consequence), ("review stars", &m.by_stars)] {
            let mut named: Vec<(&str, &Group)> = strata.iter().map(|(n, g)| (n.as_str(), g)).collect();
            named.sort_by_key(|(_, g)| std::cmp::Reverse(g.records));
            let _ = writeln!(out, "By {what}:\n\n{}", strata_table(what, &named).markdown());
        }
    }
}

fn probabilities(out: &mut String, m: &ModeReport, fitted: Option<&ModeCalibration>) {
    if m.answered_share == 0.0 {
        let _ =
            writeln!(out, "In this mode the model abstains: no band was right often enough on validation.\n");
    } else if let Some(f) = fitted {
        let _ = writeln!(
            out,
            "A probability assumes that {:.0} % of the variants are pathogenic. Below {:.3} it is called benign, above {:.3} \
             pathogenic, between them uncertain.",
            100.0 * f.prior,
            f.benign_below,
            f.pathogenic_above
        );
        match f.missense {
            Some(own) if own.answered_share > 0.0 => {
                let (low, high) = (own.benign_below, own.pathogenic_above);
                let _ = writeln!(
                    out,
                    "For missense variants, whose label is the model's own work, these borders are {low:.3} and {high:.3}."
                );
            }
            Some(_) => {
                let _ = writeln!(
                    out,
                    "Missense variants are all called uncertain: no borders were right often enough on validation."
                );
            }
            None => {}
        }
    }
    if let Some(right) = m.answered_accuracy {
        let (share, right) = (100.0 * m.answered_share, 100.0 * right);
        let _ = writeln!(
            out,
            "{share:.1} % of the records get a label; {right:.1} % of these labels are right.\n"
        );
    }
    let Some(c) = &m.calibration else { return };
    let _ = writeln!(
        out,
        "Expected calibration error: {:.4} as the probabilities are; {:.4} when they are moved to the records' own share of \
         pathogenic ({:.1} %).",
        c.raw.ece,
        c.at_share.ece,
        100.0 * c.share
    );
    if let Some(w) = &c.reweighted {
        let _ = writeln!(
            out,
            "{:.4} with each consequence reweighted to the share that it has in `{}`.",
            w.calibrated.ece, w.to
        );
    }
    for (method, f) in &c.cross_fitted {
        let _ = writeln!(out, "Fitted on other genes, {method}: {:.4} (log loss {:.4}).", f.ece, f.log_loss);
    }
    let _ =
        writeln!(out, "\nEvidence, where 95 % of resampled genes agree:\n\n{}", strength_table(c).markdown());
}

fn sequence(out: &mut String, r: &SequenceReport) {
    section(out, "Figures", &format!("{} ({}).", r.intervals, r.engine));
    let _ = writeln!(
        out,
        "\n{} records; floors beside the model, on the same records.\n\n{}",
        r.records,
        sequence_table("", r).markdown()
    );
}

fn limits(out: &mut String, report: &AnyReport) {
    let text = match report {
        AnyReport::Variant(_) => {
            "Labels are of public submissions, made by people who saw the consequence and, often, other predictors; \
             genes with many labels dominate the figures over all records. Ancestries are not recorded, so no figure is \
             given by ancestry. A probability holds for the prior that it names; a ward's own share of pathogenic variants \
             moves it."
        }
        AnyReport::Sequence(_) => {
            "The figures hold for sequences like those evaluated. Near relatives between training and evaluation data are \
             removed as far as the preparation report says."
        }
    };
    section(out, "Limits", text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evaluate::{Described, describe_numbers, sequence_figures},
        sequence_model::Truth,
    };

    #[test]
    fn a_card_says_how_often_test_was_read_and_by_whom() {
        let truth = Truth::Values(vec![1.0, 3.0]);
        let figures = sequence_figures(&[vec![1.0], vec![2.0]], &truth, &["a", "b"], 9, 1);
        let floors = [("BLOSUM62".to_owned(), figures.clone())].into();
        let described = describe_numbers(&[1.0, 2.0], &[1.0, 3.0]);
        let report = SequenceReport {
            model: "tem-1 1.0.0 abc".into(),
            engine: "tract".into(),
            precision: "fp32".into(),
            split: "test".into(),
            data: "d1".into(),
            test_reads: Some(2),
            left_out: Default::default(),
            records: 2,
            groups: 2,
            intervals: "95 %".into(),
            figures,
            floors,
            described: Described::Numbers(described),
        };
        let json = serde_json::to_string(&report).unwrap();
        let reads =
            [Read::now("test", "d1", "a"), Read::now("test", "d2", "a"), Read::now("test", "d1", "b")];
        let text = card(&json, None, &reads).unwrap();
        assert!(text.starts_with("# Model card: tem-1 1.0.0\n"));
        assert!(text.contains("read 2 times, by 2 models") && text.contains("| spearman | 1.0000"), "{text}");
        assert!(text.contains("| figure | model | BLOSUM62 |"), "{text}");
        assert!(card(&json, None, &[]).unwrap().contains("no look at its test split is on record"));
    }
}
