//! An answer in words, for `locusctl ask` and `locusctl terminal`.

use locus_firmware_config::message::{Answer, BaseAttribution};

/// Characters of the longest bar.
const BAR: usize = 24;

/// An answer for a person, a line each; the first says what the box makes of it, those after it why not to rely on that.
pub(super) fn lines(answer: &Answer) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |line: String| lines.push(line);
    let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    match &answer.mutation {
        Some(mutation) => say(format!("{mutation}: {}", answer.predicted_description)),
        None => say(answer.predicted_description.clone()),
    }
    for warning in &answer.warnings {
        say(format!("  warning: {warning}"));
    }
    if let Some(reason) = &answer.out_of_distribution_reason {
        say(format!("  unlike the training data: {reason}"));
    }
    if let Some(p) = answer.pathogenic_probability {
        say(format!(
            "  probability {p:.3} at a prior of {:.2}, band {}",
            answer.prior.unwrap_or(f64::NAN),
            answer.band.as_str()
        ));
    }
    for part in answer.prediction.iter().flat_map(|prediction| &prediction.probabilities) {
        say(format!("  {} {:.3}", part.label, part.probability));
    }
    if answer.input_mode != "sequence" {
        say(format!(
            "  consequence {}, transcript {}",
            known(&answer.consequence),
            known(&answer.transcript_id)
        ));
    }
    let names: Vec<&str> =
        [&answer.hgvs_c, &answer.hgvs_p].into_iter().flatten().map(String::as_str).collect();
    if !names.is_empty() {
        say(format!("  {}", names.join(", ")));
    }
    if let Some(evidence) = &answer.evidence {
        say(format!(
            "  evidence {} {}, likelihood ratio {:.2}",
            evidence.criterion, evidence.strength, evidence.likelihood_ratio
        ));
    }
    if !answer.attribution.is_empty() {
        say("  what each base around the change speaks for, in logits: - benign, + pathogenic".into());
        bars(&answer.attribution).iter().for_each(|line| say(format!("  {line}")));
    }
    if let (Some(assembly), Some(reference)) = (&answer.assembly, &answer.reference) {
        say(format!("  read on {assembly}, {} {}", reference.name, reference.version).trim_end().to_owned());
    }
    say(format!(
        "  model {} {} on {} in {}, {} us",
        answer.model.name,
        answer.model.version,
        answer.engine.provider,
        answer.engine.precision,
        answer.timing_us.queue
            + answer.timing_us.tokenize
            + answer.timing_us.infer
            + answer.timing_us.journal
    ));
    if let Some(receipt) = &answer.receipt {
        say(format!("  receipt {} of journal {}", receipt.index, receipt.journal));
    }
    say(format!("  {}", answer.intended_use));
    lines
}

/// One line a base in the order in which they were read, with a bar as long as what it contributes.
fn bars(attribution: &[BaseAttribution]) -> Vec<String> {
    let mut bases: Vec<&BaseAttribution> = attribution.iter().collect();
    bases.sort_by_key(|base| base.offset);
    let most = bases.iter().map(|base| base.effect.abs()).fold(0.0, f32::max);
    let bar = |base: &BaseAttribution| {
        let length = if most > 0.0 { (base.effect.abs() / most * BAR as f32).round() as usize } else { 0 };
        let sign = if base.effect < 0.0 { "-" } else { "+" };
        sign.repeat(length.min(BAR))
    };
    let line = |base: &BaseAttribution| {
        format!("{:+4} {} {:+.3} {}", base.offset, base.base, base.effect, bar(base)).trim_end().to_owned()
    };
    bases.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_order_and_as_long_as_what_a_base_contributes() {
        let base = |offset, effect| BaseAttribution { offset, base: "A".into(), effect };
        let lines = bars(&[base(2, 0.5), base(-1, -1.0), base(0, 0.0)]);
        assert_eq!(lines[0], format!("  -1 A -1.000 {}", "-".repeat(BAR)));
        assert_eq!(lines[1], "  +0 A +0.000");
        assert_eq!(lines[2], format!("  +2 A +0.500 {}", "+".repeat(BAR / 2)));
        assert!(bars(&[base(0, f32::NAN)])[0].contains("NaN"));
    }
}
