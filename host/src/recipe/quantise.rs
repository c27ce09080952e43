//! `[quantise]`: what is tried to make a graph in 8 bits.

use locus_calibration::Method;
use serde::{Deserialize, Serialize};

use super::check::wrong;
use crate::Result;

/// `[quantise]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuantisePlan {
    /// Range estimators to try: the one whose logits come nearest to float32 on `val_select` is taken.
    pub methods: Vec<Method>,
    /// Strengths of scale migration to try, beside none.
    pub migrations: Vec<f32>,
    /// Share of decisions that INT8 may change.
    pub flips_budget: f64,
}

impl Default for QuantisePlan {
    fn default() -> Self {
        Self { methods: vec![Method::MinMax], migrations: Vec::new(), flips_budget: 0.003 }
    }
}

impl QuantisePlan {
    pub(super) fn check(&self) -> Result<()> {
        if self.methods.is_empty() {
            return wrong("quantise.methods", "none", "one or more estimators");
        }
        if let Some(strength) = self.migrations.iter().find(|s| !(**s > 0.0 && **s <= 1.0)) {
            return wrong("quantise.migrations", strength, "strengths over 0, to 1");
        }
        if !(0.0..=1.0).contains(&self.flips_budget) {
            return wrong("quantise.flips_budget", self.flips_budget, "a share from 0 to 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_tried_is_refused() {
        let read = |text: &str| toml::from_str::<QuantisePlan>(text).map_err(|e| e.to_string());
        let checked = |text: &str| read(text).and_then(|plan| plan.check().map_err(|e| e.to_string()));
        assert_eq!(checked(""), Ok(()));
        assert_eq!(checked("methods = [\"entropy\", \"percentile-99.99\"]\nmigrations = [0.5]"), Ok(()));
        for (text, named) in [
            ("methods = []", "quantise.methods"),
            ("methods = [\"best\"]", "expected min-max"),
            ("migrations = [0.0]", "quantise.migrations"),
            ("migrations = [1.5]", "quantise.migrations"),
            ("flips_budget = -0.1", "quantise.flips_budget"),
            ("speed = 1", "speed"),
        ] {
            assert!(checked(text).unwrap_err().contains(named), "{text}: {:?}", checked(text));
        }
    }
}
