//! Gradients by name, summed over micro-batches and ranks.

use std::collections::BTreeMap;

use candle_core::{Result as ModelResult, Tensor, backprop::GradStore};

use super::Collective;
use crate::{Result, model::Params};

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
    pub fn add(&mut self, params: &Params, of: &GradStore, weight: f64) -> ModelResult<()> {
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

    /// Rows or tokens of all that was added.
    pub const fn weight(&self) -> f64 {
        self.weight
    }

    /// Adds those of all ranks, and `more` numbers.
    ///
    /// # Errors
    /// [`Error::Peer`](crate::Error::Peer).
    pub fn reduce(&mut self, collective: &mut dyn Collective, more: &mut [f32]) -> Result<()> {
        if collective.world() == 1 {
            return Ok(());
        }
        let mut flat = Vec::new();
        for sum in self.sums.values() {
            flat.extend(sum.flatten_all()?.to_vec1::<f32>()?);
        }
        let own = flat.len();
        flat.push(self.weight as f32);
        flat.extend_from_slice(more);
        collective.all_reduce(&mut flat)?;
        let mut at = 0;
        for sum in self.sums.values_mut() {
            let n = sum.elem_count();
            *sum = Tensor::from_slice(&flat[at..at + n], sum.shape().clone(), sum.device())?;
            at += n;
        }
        self.weight = f64::from(flat[own]);
        more.copy_from_slice(&flat[own + 1..]);
        Ok(())
    }

    /// Gradients of the mean over all that was added.
    ///
    /// # Errors
    /// No memory.
    pub fn mean(self) -> ModelResult<BTreeMap<String, Tensor>> {
        self.mean_of_scaled(1.0)
    }

    /// The same where each loss was multiplied by `scale` before its backward pass.
    ///
    /// # Errors
    /// No memory.
    pub fn mean_of_scaled(self, scale: f64) -> ModelResult<BTreeMap<String, Tensor>> {
        let factor = 1.0 / (self.weight * scale);
        let mean = |(name, sum): (String, Tensor)| Ok((name, sum.affine(factor, 0.0)?));
        self.sums.into_iter().map(mean).collect()
    }
}
