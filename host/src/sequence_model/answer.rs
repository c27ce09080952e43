//! What turns logits into answers, fitted on validation only.

use locus_engine::probability::softmax;
use locus_firmware_config::manifest::SequenceCalibration;

use super::Truth;
use crate::{Error, Result, calibrate};

/// Temperatures tried: outside it the classes do not overlap, or nothing was learnt.
const TEMPERATURES: (f64, f64) = (0.05, 20.0);
const STEPS: usize = 60;

/// Fits probabilities: of two classes temperature and offset (Platt 1999), of several one temperature (Guo et al.
/// 2017), under the shares that the classes have in these records. Values need the mean and deviation that training
/// took from its targets.
///
/// # Errors
/// Records of one class only.
pub fn fit(logits: &[Vec<f32>], truth: &Truth, scale: (f64, f64)) -> Result<SequenceCalibration> {
    let classes = match truth {
        Truth::Values(_) => return Ok(SequenceCalibration::Value { mean: scale.0, deviation: scale.1 }),
        Truth::Classes(classes) => classes,
    };
    let labels = logits.first().map_or(0, Vec::len);
    let mut counts = vec![0.0; labels];
    classes.iter().for_each(|&c| counts[c] += 1.0);
    if counts.len() < 2 || counts.contains(&0.0) {
        return Err(Error::Data {
            what: "validation".into(),
            got: format!("{counts:?} records of the classes"),
            expected: "some of each".into(),
        });
    }
    let prior: Vec<f64> = counts.iter().map(|n| n / classes.len() as f64).collect();
    if labels == 2 {
        let differences: Vec<f64> = logits.iter().map(|z| f64::from(z[1]) - f64::from(z[0])).collect();
        let positive: Vec<bool> = classes.iter().map(|&c| c == 1).collect();
        if let Some(platt) = calibrate::fit(&differences, &positive, prior[1]) {
            let offsets = vec![0.0, platt.offset];
            return Ok(SequenceCalibration::Classes { temperature: platt.temperature, offsets, prior });
        }
    }
    let temperature = golden_section(|t| {
        logits.iter().zip(classes).map(|(z, &c)| -softmax(z, t.exp(), &[])[c].max(1e-300).ln()).sum()
    })
    .exp();
    Ok(SequenceCalibration::Classes { temperature, offsets: vec![0.0; labels], prior })
}

/// The logarithm of the temperature at which a loss with one minimum is lowest (Kiefer 1953).
fn golden_section(loss: impl Fn(f64) -> f64) -> f64 {
    let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (TEMPERATURES.0.ln(), TEMPERATURES.1.ln());
    for _ in 0..STEPS {
        let (a, b) = (high - ratio * (high - low), low + ratio * (high - low));
        if loss(a) < loss(b) { high = b } else { low = a }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits whose right temperature is 2.5: each class is drawn as often as the softmax at it says.
    fn overconfident() -> (Vec<Vec<f32>>, Truth) {
        let z = vec![2.0, 0.5, -1.0];
        let share = softmax(&z, 2.5, &[]);
        let mut classes = Vec::new();
        for (c, p) in share.iter().enumerate() {
            classes.extend(vec![c; (p * 10_000.0).round() as usize]);
        }
        (vec![z; classes.len()], Truth::Classes(classes))
    }

    #[test]
    fn the_temperature_of_three_classes_is_found() {
        let (logits, truth) = overconfident();
        let fitted = fit(&logits, &truth, (0.0, 1.0)).unwrap();
        let SequenceCalibration::Classes { temperature, offsets, prior } = fitted else { panic!() };
        assert!((temperature - 2.5).abs() < 0.01, "{temperature}");
        assert_eq!((offsets, prior.len()), (vec![0.0; 3], 3));
    }

    #[test]
    fn one_class_is_an_error_and_values_keep_their_scale() {
        assert!(fit(&[vec![0.0, 1.0]], &Truth::Classes(vec![1]), (0.0, 1.0)).is_err());
        let values = fit(&[vec![0.0]], &Truth::Values(vec![3.0]), (3.0, 0.5)).unwrap();
        assert_eq!(values, SequenceCalibration::Value { mean: 3.0, deviation: 0.5 });
    }
}
