//! What quantisation may cost.

use serde::{Deserialize, Serialize};

/// What quantisation cost on the same records.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Metric in float less the metric in INT8: above 0 where INT8 is worse.
    pub loss: f64,
    /// Share of records that are decided otherwise.
    pub flips: f64,
}

/// What it may cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Largest loss of the metric.
    pub loss: f64,
    /// Largest share of other decisions.
    pub flips: f64,
}

impl Budget {
    /// What the cost exceeds, in words; `None` where it holds. A cost that is not a number holds nowhere.
    pub fn exceeded(&self, cost: &Cost) -> Option<String> {
        let over = |got: f64, most: f64| got.is_nan() || got > most;
        if over(cost.loss, self.loss) {
            return Some(format!("got a loss of {:.5}, expected {} at most", cost.loss, self.loss));
        }
        over(cost.flips, self.flips).then(|| {
            format!(
                "got {:.3} % of decisions changed, expected {:.3} % at most",
                100.0 * cost.flips,
                100.0 * self.flips
            )
        })
    }
}

/// Share of decisions that differ; all of them where the lists are not equally long.
pub fn flips<T: PartialEq>(a: &[T], b: &[T]) -> f64 {
    if a.len() != b.len() {
        return 1.0;
    }
    let differing = a.iter().zip(b).filter(|(a, b)| a != b).count();
    differing as f64 / a.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_within_the_budget_holds_and_one_that_is_no_number_does_not() {
        let budget = Budget { loss: 0.002, flips: 0.003 };
        let held = |loss, flips| budget.exceeded(&Cost { loss, flips });
        assert_eq!(held(0.002, 0.003), None);
        assert_eq!(held(-1.0, 0.0), None);
        assert!(held(0.0021, 0.0).unwrap().contains("loss of 0.00210"));
        assert!(held(0.0, 0.0031).unwrap().contains("0.310 % of decisions"));
        assert!(held(f64::NAN, 0.0).is_some() && held(0.0, f64::NAN).is_some());
    }

    #[test]
    fn flips_are_counted_over_all_records() {
        assert_eq!(flips(&[1, 2, 3, 4], &[1, 2, 0, 4]), 0.25);
        assert_eq!((flips::<u8>(&[], &[]), flips(&[1], &[1, 2])), (0.0, 1.0));
    }
}
