//! AdamW (Loshchilov & Hutter 2019) with linear warm-up, cosine decay and clipping by global norm.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::moments::{ByName, Moments, Moved, Step, flat_gradients};
use crate::{
    model::{Params, load_tensors, save_tensors},
    nn,
};

/// Learning rate over steps: linear from 0 in `warmup_steps`, then a half cosine down to 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Highest rate.
    pub peak: f64,
    /// Steps until it is reached.
    pub warmup_steps: u64,
    /// Steps in all.
    pub total_steps: u64,
}

impl Schedule {
    /// Rate of a step, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let done = ((step - self.warmup_steps) as f64 / span).min(1.0);
        self.peak * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

/// Settings of [`AdamW`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay; biases and layer norms have none.
    pub weight_decay: f64,
    /// Largest global gradient norm.
    pub clip: f64,
}

impl AdamWOptions {
    fn decay_of(&self, name: &str) -> f64 {
        if name.ends_with("bias") || name.contains("LayerNorm") { 0.0 } else { self.weight_decay }
    }
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.02, clip: 1.0 }
    }
}

/// Optimiser state: both moments of every parameter.
pub struct AdamW {
    options: AdamWOptions,
    schedule: Schedule,
    step: u64,
    moments: ByName,
    /// Where the parameters are on a GPU, in place of `moments`.
    on_gpu: Option<Moments>,
    /// Share of the schedule's rate by name; all of it where there is none.
    rates: BTreeMap<String, f64>,
}

impl AdamW {
    /// A fresh optimiser.
    pub fn new(options: AdamWOptions, schedule: Schedule) -> Self {
        Self { options, schedule, step: 0, moments: BTreeMap::new(), on_gpu: None, rates: BTreeMap::new() }
    }

    /// Learning rate of the step that was taken last.
    pub fn last_rate(&self) -> f64 {
        self.schedule.rate(self.step.saturating_sub(1))
    }

    /// Steps taken.
    pub const fn steps(&self) -> u64 {
        self.step
    }

    /// Gives parameters a share of the schedule's rate.
    pub fn set_rates<'a>(&mut self, rates: impl IntoIterator<Item = (&'a str, f64)>) {
        self.rates = rates.into_iter().map(|(name, rate)| (name.to_owned(), rate)).collect();
    }

    /// Clips the gradients and moves every parameter that has one. Returns the norm before clipping; where that
    /// is not finite the step is not taken.
    ///
    /// # Errors
    /// No memory.
    pub fn update(&mut self, params: &Params, gradients: &BTreeMap<String, Tensor>) -> Result<f64> {
        if nn::refused() || !params.device().is_cpu() {
            return self.update_on_gpu(params, gradients);
        }
        let mut all = Vec::new();
        for (name, var) in params.iter() {
            if let Some(g) = gradients.get(name) {
                all.push((name, var, g.flatten_all()?.to_vec1::<f32>()?));
            }
        }
        let square: f64 = all
            .par_iter()
            .map(|(_, _, g)| g.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>())
            .collect::<Vec<_>>()
            .iter()
            .sum();
        let norm = square.sqrt();
        if !norm.is_finite() {
            return Ok(norm);
        }
        let scale = (self.options.clip / (norm + 1e-12)).min(1.0) as f32;
        let rate = self.schedule.rate(self.step);
        self.step += 1;
        let o = self.options;
        let correct1 = 1.0 - o.beta1.powf(self.step as f64);
        let correct2 = 1.0 - o.beta2.powf(self.step as f64);
        let root = (1.0 / correct2.sqrt()) as f32;
        let (b1, b2, eps) = (o.beta1 as f32, o.beta2 as f32, o.eps as f32);
        for (name, var, g) in all {
            let decay = o.decay_of(name);
            let rate = rate * self.rates.get(name).copied().unwrap_or(1.0);
            let (keep, step_size) = ((1.0 - rate * decay) as f32, (rate / correct1) as f32);
            let (m, v) = self
                .moments
                .entry(name.to_owned())
                .or_insert_with(|| (vec![0.0; g.len()], vec![0.0; g.len()]));
            let mut w = var.as_tensor().flatten_all()?.to_vec1::<f32>()?;
            for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(&g) {
                let g = g * scale;
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
                *w = *w * keep - step_size * *m / ((*v).sqrt() * root + eps);
            }
            var.set(&Tensor::from_vec(w, var.shape().clone(), var.device())?)?;
        }
        Ok(norm)
    }

    fn update_on_gpu(&mut self, params: &Params, gradients: &BTreeMap<String, Tensor>) -> Result<f64> {
        let moved: Vec<_> = params.iter().filter_map(|(n, var)| Some((n, var, gradients.get(n)?))).collect();
        let Some((flat, norm)) = flat_gradients(moved.iter().map(|(.., g)| *g))? else { return Ok(0.0) };
        if !norm.is_finite() {
            return Ok(norm);
        }
        let rate = self.schedule.rate(self.step);
        self.step += 1;
        let o = self.options;
        let correct = |beta: f64| 1.0 - beta.powf(self.step as f64);
        let all: Vec<Moved<'_>> = moved
            .into_iter()
            .map(|(name, var, _)| {
                let rate = rate * self.rates.get(name).copied().unwrap_or(1.0);
                let (keep, step_size) = (1.0 - rate * o.decay_of(name), rate / correct(o.beta1));
                Moved { name, var, keep, step_size }
            })
            .collect();
        let root = 1.0 / correct(o.beta2).sqrt();
        let step = Step { beta1: o.beta1, beta2: o.beta2, eps: o.eps, clip: o.clip, root };
        let mut moments = match self.on_gpu.take() {
            Some(moments) => moments,
            None => Moments::of(&std::mem::take(&mut self.moments))?,
        };
        moments.step(&all, &flat, norm, &step)?;
        self.on_gpu = Some(moments);
        Ok(norm)
    }

    /// Writes moments and step count.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut tensors = HashMap::new();
        let on_gpu = self.on_gpu.as_ref().map(Moments::values).transpose()?;
        for (name, (m, v)) in on_gpu.as_ref().unwrap_or(&self.moments) {
            tensors.insert(format!("m.{name}"), Tensor::from_slice(m, m.len(), &Device::Cpu)?);
            tensors.insert(format!("v.{name}"), Tensor::from_slice(v, v.len(), &Device::Cpu)?);
        }
        tensors.insert("step".into(), Tensor::new(self.step as i64, &Device::Cpu)?);
        save_tensors(&tensors, path)
    }

    /// Reads what [`AdamW::write`] wrote.
    ///
    /// # Errors
    /// The file cannot be read or lacks something.
    pub fn read(&mut self, path: &Path) -> Result<()> {
        let tensors = load_tensors(path)?;
        let Some(step) = tensors.get("step") else { bail!("{}: no step count", path.display()) };
        self.step = step.to_scalar::<i64>()? as u64;
        self.moments.clear();
        self.on_gpu = None;
        for (name, m) in tensors.iter().filter_map(|(n, t)| Some((n.strip_prefix("m.")?, t))) {
            let Some(v) = tensors.get(&format!("v.{name}")) else {
                bail!("{}: no second moment of {name}", path.display())
            };
            self.moments.insert(name.to_owned(), (m.to_vec1()?, v.to_vec1()?));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_then_falls_to_nothing() {
        let s = Schedule { peak: 1.0, warmup_steps: 10, total_steps: 110 };
        assert!((s.rate(0) - 0.1).abs() < 1e-12 && (s.rate(9) - 1.0).abs() < 1e-12);
        assert!((s.rate(60) - 0.5).abs() < 1e-12 && s.rate(110) < 1e-12 && s.rate(999) < 1e-12);
    }
}
