//! Logit → probability → band, and when no answer is given.
//!
//! Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017) with an offset for
//! the prior, per input mode: p = sigmoid(z / temperature + offset).

use locus_firmware_config::manifest::{
    Borders, ModeCalibration, ProbabilityModel, SequenceCalibration, Task,
};
use locus_firmware_config::message::Band;
use locus_genome::{Consequence, InputMode};

use crate::scorer::ScoreError;

/// A mode whose answers outside the uncertain band were right less often than this on validation is not answered.
pub const MIN_ANSWERED_ACCURACY: f64 = 0.90;

/// What a logit means.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Probability of the positive label; `None` when abstained.
    pub probability: Option<f64>,
    /// Share of positives that the probability assumes; `None` when the mode has no calibration.
    pub prior: Option<f64>,
    /// Where the probability lies; `Band::None` when abstained.
    pub band: Band,
    /// Why there is no probability; `None` when there is one.
    pub abstained: Option<String>,
}

impl Verdict {
    pub(crate) fn abstain(reason: impl Into<String>, prior: Option<f64>) -> Self {
        Self { probability: None, prior, band: Band::None, abstained: Some(reason.into()) }
    }
}

/// sigmoid(z / temperature + offset), without overflow at either end.
pub fn probability(logit: f64, temperature: f64, offset: f64) -> f64 {
    let x = logit / temperature + offset;
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// softmax(z / temperature + offsets), without overflow.
pub fn softmax(logits: &[f32], temperature: f64, offsets: &[f64]) -> Vec<f64> {
    let shifted: Vec<f64> = logits
        .iter()
        .enumerate()
        .map(|(k, &z)| f64::from(z) / temperature + offsets.get(k).copied().unwrap_or(0.0))
        .collect();
    let top = shifted.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let raised: Vec<f64> = shifted.iter().map(|x| (x - top).exp()).collect();
    let total: f64 = raised.iter().sum();
    raised.iter().map(|e| e / total).collect()
}

/// The band of a probability: the borders themselves are uncertain, and so is every variant that may be missense where
/// the labels of missense variants were not right often enough on validation.
pub fn band(probability: f64, calibration: &ModeCalibration, consequence: Option<Consequence>) -> Band {
    let missense = consequence.is_some_and(Consequence::may_be_missense);
    let weak = |own: &Borders| own.answered_share == 0.0 || own.answered_accuracy < MIN_ANSWERED_ACCURACY;
    if missense && calibration.missense.as_ref().is_some_and(weak) {
        return Band::Uncertain;
    }
    let (benign_below, pathogenic_above) = calibration.borders(missense);
    if probability < benign_below {
        Band::Benign
    } else if probability > pathogenic_above {
        Band::Pathogenic
    } else {
        Band::Uncertain
    }
}

/// What `logit` means in `mode`, of a variant with this consequence.
///
/// # Errors
/// [`ScoreError::NotFinite`] for a logit, or a probability, that is no number: never an answer.
pub fn judge(
    model: &ProbabilityModel,
    mode: InputMode,
    consequence: Option<Consequence>,
    logit: f32,
) -> Result<Verdict, ScoreError> {
    if !logit.is_finite() {
        return Err(ScoreError::NotFinite);
    }
    let Some(calibration) = model.modes.get(mode.as_str()) else {
        return Ok(Verdict::abstain(format!("the model has no calibration for input mode {mode}"), None));
    };
    if calibration.answered_share == 0.0 {
        let reason = format!("in input mode {mode} no thresholds were sure enough on validation");
        return Ok(Verdict::abstain(reason, Some(calibration.prior)));
    }
    let accuracy = calibration.answered_accuracy;
    if accuracy.is_nan() || accuracy < MIN_ANSWERED_ACCURACY {
        // Rounded down: 89.96 % must not read as the 90 % that are needed.
        let reason = format!(
            "in input mode {mode} the model's answers were right in {:.1} % of validation, under the {:.0} % needed",
            (accuracy * 1000.0).floor() / 10.0,
            MIN_ANSWERED_ACCURACY * 100.0
        );
        return Ok(Verdict::abstain(reason, Some(calibration.prior)));
    }
    let probability = probability(f64::from(logit), calibration.temperature, calibration.offset);
    if !probability.is_finite() {
        return Err(ScoreError::NotFinite);
    }
    Ok(Verdict {
        probability: Some(probability),
        prior: Some(calibration.prior),
        band: band(probability, calibration, consequence),
        abstained: None,
    })
}

/// Says what is wrong with a probability model: field, value and what it may be.
pub(crate) fn problem(model: &ProbabilityModel) -> Option<(String, String)> {
    model.modes.iter().find_map(|(mode, c)| {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let checks = [
            ("temperature", c.temperature, c.temperature.is_finite() && c.temperature > 0.0),
            ("offset", c.offset, c.offset.is_finite()),
            ("prior", c.prior, c.prior > 0.0 && c.prior < 1.0),
            ("benign_below", c.benign_below, share(c.benign_below)),
            (
                "pathogenic_above",
                c.pathogenic_above,
                share(c.pathogenic_above) && c.pathogenic_above >= c.benign_below,
            ),
            ("answered_accuracy", c.answered_accuracy, share(c.answered_accuracy)),
            ("answered_share", c.answered_share, share(c.answered_share)),
        ];
        let own = c.missense.as_ref().map(|m| {
            [
                ("missense.benign_below", m.benign_below, share(m.benign_below)),
                (
                    "missense.pathogenic_above",
                    m.pathogenic_above,
                    share(m.pathogenic_above) && m.pathogenic_above >= m.benign_below,
                ),
                ("missense.answered_accuracy", m.answered_accuracy, share(m.answered_accuracy)),
                ("missense.answered_share", m.answered_share, share(m.answered_share)),
            ]
        });
        let (field, value, _) =
            checks.into_iter().chain(own.into_iter().flatten()).find(|(_, _, good)| !good)?;
        Some((format!("{mode}.{field}"), value.to_string()))
    })
}

/// As [`problem`], of a sequence model of `labels` outputs.
pub(crate) fn sequence_problem(
    calibration: Option<&SequenceCalibration>,
    task: Task,
    labels: usize,
) -> Option<(String, String)> {
    let wrong = |field: &str, got: String| Some((format!("sequence.{field}"), got));
    match (task, calibration) {
        (
            Task::SequenceClassification,
            Some(SequenceCalibration::Classes { temperature, offsets, prior }),
        ) => {
            if !(temperature.is_finite() && *temperature > 0.0) {
                return wrong("temperature", temperature.to_string());
            }
            if offsets.len() != labels || offsets.iter().any(|o| !o.is_finite()) {
                return wrong("offsets", format!("{} of {labels} labels", offsets.len()));
            }
            let shares = prior.iter().all(|p| *p > 0.0 && *p < 1.0);
            let total: f64 = prior.iter().sum();
            if prior.len() != labels || !shares || (total - 1.0).abs() > 1e-6 {
                return wrong("prior", format!("{} shares that sum to {total}", prior.len()));
            }
            None
        }
        (Task::SequenceRegression, Some(SequenceCalibration::Value { mean, deviation })) => {
            let good = mean.is_finite() && deviation.is_finite() && *deviation > 0.0;
            if good { None } else { wrong("deviation", deviation.to_string()) }
        }
        (_, other) => wrong("kind", format!("{other:?}").chars().take(40).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_of_two_is_the_sigmoid_of_their_difference() {
        let p = softmax(&[0.5, 2.0], 2.0, &[0.0, 0.25]);
        assert!((p[1] - probability(1.5, 2.0, 0.25)).abs() < 1e-15 && (p[0] + p[1] - 1.0).abs() < 1e-15);
        assert_eq!(softmax(&[-1e30, 1e30], 1.0, &[]), [0.0, 1.0]);
    }

    fn calibration() -> ModeCalibration {
        ModeCalibration {
            temperature: 2.0,
            offset: 0.5,
            prior: 0.3,
            benign_below: 0.2,
            pathogenic_above: 0.8,
            answered_accuracy: 0.95,
            answered_share: 0.7,
            lr_pathogenic: 10.0,
            lr_benign: 0.1,
            missense: None,
            evidence: Vec::new(),
        }
    }

    fn model(calibration: ModeCalibration) -> ProbabilityModel {
        ProbabilityModel { modes: [("transcript".to_owned(), calibration)].into(), sequence: None }
    }

    #[test]
    fn a_missense_variant_has_borders_of_its_own_where_there_are_some() {
        let own = Borders {
            benign_below: 0.05,
            pathogenic_above: 0.95,
            answered_accuracy: 0.92,
            answered_share: 0.3,
            lr_pathogenic: 20.0,
            lr_benign: 0.05,
        };
        let with = ModeCalibration { missense: Some(own), ..calibration() };
        let terms = [Some(Consequence::Missense), Some(Consequence::Synonymous), None];
        let bands = |p: f64, c: &ModeCalibration| terms.map(|term| band(p, c, term));
        assert_eq!(bands(0.1, &with), [Band::Uncertain, Band::Benign, Band::Benign]);
        assert_eq!(bands(0.9, &with), [Band::Uncertain, Band::Pathogenic, Band::Pathogenic]);
        assert_eq!(bands(0.96, &with), [Band::Pathogenic; 3]);
        assert_eq!(bands(0.1, &calibration()), [Band::Benign; 3]);
        // A codon that is cut off may be one.
        assert_eq!(band(0.9, &with, Some(Consequence::Coding)), Band::Uncertain);
        for weak in [Borders { answered_accuracy: 0.89, ..own }, Borders { answered_share: 0.0, ..own }] {
            let with = ModeCalibration { missense: Some(weak), ..calibration() };
            assert_eq!(bands(0.99, &with), [Band::Uncertain, Band::Pathogenic, Band::Pathogenic]);
        }
        let wrong = Borders { pathogenic_above: 0.01, ..own };
        let wrong = model(ModeCalibration { missense: Some(wrong), ..calibration() });
        assert_eq!(problem(&wrong).unwrap().0, "transcript.missense.pathogenic_above");
    }

    #[test]
    fn probability_is_the_sigmoid_and_never_leaves_0_to_1() {
        assert!((probability(0.0, 1.0, 0.0) - 0.5).abs() < 1e-15);
        // sigmoid(1 / 2 + 0.5) = 1 / (1 + e^-1)
        assert!((probability(1.0, 2.0, 0.5) - 0.731_058_578_630_004_9).abs() < 1e-12);
        for logit in [-1e30, -800.0, 800.0, 1e30] {
            let p = probability(logit, 1.0, 0.0);
            assert!((0.0..=1.0).contains(&p), "{logit} gave {p}");
        }
        let rising: Vec<f64> = (-50..50).map(|z| probability(f64::from(z), 1.5, 0.1)).collect();
        assert!(rising.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn borders_are_uncertain() {
        let c = calibration();
        assert_eq!(band(0.199_999, &c, None), Band::Benign);
        assert_eq!(band(0.2, &c, None), Band::Uncertain);
        assert_eq!(band(0.8, &c, None), Band::Uncertain);
        assert_eq!(band(0.800_001, &c, None), Band::Pathogenic);
    }

    #[test]
    fn a_weak_or_unknown_mode_abstains_without_a_probability() {
        let weak = ModeCalibration { answered_accuracy: 0.899, ..calibration() };
        for accuracy in [weak.answered_accuracy, f64::NAN] {
            let weak = ModeCalibration { answered_accuracy: accuracy, ..calibration() };
            let verdict = judge(&model(weak), InputMode::Transcript, None, 9.0).unwrap();
            assert_eq!((verdict.probability, verdict.band), (None, Band::None));
            assert!(verdict.abstained.is_some());
        }
        let never = ModeCalibration { answered_share: 0.0, answered_accuracy: 1.0, ..calibration() };
        let verdict = judge(&model(never), InputMode::Transcript, None, 9.0).unwrap();
        assert!(
            verdict.probability.is_none() && verdict.abstained.is_some_and(|why| why.contains("thresholds"))
        );
        let verdict = judge(&model(calibration()), InputMode::SequenceOnly, None, 9.0).unwrap();
        assert!(verdict.probability.is_none() && verdict.abstained.is_some());
        let verdict = judge(&model(calibration()), InputMode::Transcript, None, 9.0).unwrap();
        assert_eq!((verdict.band, verdict.abstained), (Band::Pathogenic, None));
    }

    #[test]
    fn an_accuracy_just_under_the_one_needed_does_not_read_as_if_it_were_enough() {
        for (accuracy, shown) in
            [(0.895_487, "89.5 %"), (0.899_99, "89.9 %"), (0.9_f64.next_down(), "89.9 %")]
        {
            let weak = ModeCalibration { answered_accuracy: accuracy, ..calibration() };
            let reason = judge(&model(weak), InputMode::Transcript, None, 0.0).unwrap().abstained.unwrap();
            assert!(reason.contains(&format!("right in {shown}")), "{reason}");
        }
    }

    #[test]
    fn a_logit_that_is_no_number_is_an_error_in_every_mode() {
        for logit in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for mode in [InputMode::Transcript, InputMode::SequenceOnly] {
                assert!(matches!(
                    judge(&model(calibration()), mode, None, logit),
                    Err(ScoreError::NotFinite)
                ));
            }
        }
    }

    #[test]
    fn impossible_calibrations_are_named() {
        let bad = [
            ModeCalibration { temperature: 0.0, ..calibration() },
            ModeCalibration { temperature: f64::NAN, ..calibration() },
            ModeCalibration { offset: f64::INFINITY, ..calibration() },
            ModeCalibration { prior: 1.0, ..calibration() },
            ModeCalibration { pathogenic_above: 0.1, ..calibration() },
            ModeCalibration { benign_below: -0.1, ..calibration() },
        ];
        for calibration in bad {
            assert!(problem(&model(calibration.clone())).is_some(), "{calibration:?}");
        }
        assert!(problem(&model(calibration())).is_none());
    }
}
