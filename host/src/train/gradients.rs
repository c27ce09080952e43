//! Gradients by name, summed over micro-batches.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, backprop::GradStore};

use crate::model::Params;

/// Weighted sum of the gradients of micro-batches.
#[derive(Default)]
pub struct Gradients {
    sums: BTreeMap<String, Tensor>,
    weight: f64,
}

impl Gradients {
    /// Adds the gradients of a mean loss over `weight` rows or tokens.
    ///
    /// # Errors
    /// No memory.
    pub fn add(&mut self, params: &Params, of: &GradStore, weight: f64) -> Result<()> {
        for (name, var) in params.iter() {
            let Some(g) = of.get(var.as_tensor()) else { continue };
            let g = g.affine(weight, 0.0)?;
            let sum = match self.sums.remove(name) {
                Some(sum) => (sum + g)?,
                None => g,
            };
            self.sums.insert(name.to_owned(), sum);
        }
        self.weight += weight;
        Ok(())
    }

    /// Gradients of the mean over all that was added.
    ///
    /// # Errors
    /// No memory.
    pub fn mean(self) -> Result<BTreeMap<String, Tensor>> {
        let mean = |(name, sum): (String, Tensor)| Ok((name, sum.affine(1.0 / self.weight, 0.0)?));
        self.sums.into_iter().map(mean).collect()
    }
}
