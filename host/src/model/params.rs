//! Trainable tensors by name.

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::ModelConfig;

/// Every trainable tensor under its Hugging Face BERT name, f32 on the CPU.
#[derive(Clone, Debug)]
pub struct Params {
    vars: BTreeMap<String, Var>,
    /// What a model reads: the variables, or the same storage without them.
    tensors: BTreeMap<String, Tensor>,
}

/// Names and shapes of the encoder and both heads.
fn shapes(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (h, f) = (config.hidden_size, config.intermediate_size);
    let mut all: Vec<(String, Vec<usize>)> = Vec::new();
    let mut add = |name: String, shape: &[usize]| all.push((name, shape.to_vec()));
    add("bert.embeddings.word_embeddings.weight".into(), &[config.vocab_size, h]);
    add("bert.embeddings.position_embeddings.weight".into(), &[config.max_position_embeddings, h]);
    add("bert.embeddings.token_type_embeddings.weight".into(), &[config.type_vocab_size, h]);
    let mut norms = vec!["bert.embeddings.LayerNorm".to_owned()];
    let mut linears = Vec::new();
    for n in 0..config.num_hidden_layers {
        let layer = format!("bert.encoder.layer.{n}");
        for part in ["query", "key", "value"] {
            linears.push((format!("{layer}.attention.self.{part}"), h, h));
        }
        linears.push((format!("{layer}.attention.output.dense"), h, h));
        linears.push((format!("{layer}.intermediate.dense"), f, h));
        linears.push((format!("{layer}.output.dense"), h, f));
        norms.push(format!("{layer}.attention.output.LayerNorm"));
        norms.push(format!("{layer}.output.LayerNorm"));
    }
    if config.norm_position == "pre" {
        norms.push("bert.encoder.LayerNorm".into());
    }
    linears.push(("cls.predictions.transform.dense".into(), h, h));
    norms.push("cls.predictions.transform.LayerNorm".into());
    linears.push(("head.features.dense1".into(), 128, config.n_features));
    linears.push(("head.features.dense2".into(), 64, 128));
    linears.push(("head.dense".into(), 128, 4 * h + 64));
    linears.push(("head.out".into(), config.labels.len(), 128));
    for norm in norms {
        add(format!("{norm}.weight"), &[h]);
        add(format!("{norm}.bias"), &[h]);
    }
    for (linear, out, input) in linears {
        add(format!("{linear}.weight"), &[out, input]);
        add(format!("{linear}.bias"), &[out]);
    }
    add("cls.predictions.bias".into(), &[config.vocab_size]);
    all
}

impl Params {
    fn of(vars: BTreeMap<String, Var>) -> Self {
        let tensors = vars.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect();
        Self { vars, tensors }
    }

    /// The same values for a model that is only run: no graph is built, so that every intermediate is freed as
    /// soon as it is read.
    #[must_use]
    pub fn frozen(&self) -> Self {
        let tensors = self.tensors.iter().map(|(n, t)| (n.clone(), t.detach())).collect();
        Self { vars: self.vars.clone(), tensors }
    }

    /// New weights: normal with the configured deviation, layer norms at one, biases at zero.
    ///
    /// # Errors
    /// No memory.
    pub fn new(config: &ModelConfig, seed: u64) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut vars = BTreeMap::new();
        for (name, shape) in shapes(config) {
            let n: usize = shape.iter().product();
            let values: Vec<f32> = if name.ends_with("LayerNorm.weight") {
                vec![1.0; n]
            } else if name.ends_with("bias") {
                vec![0.0; n]
            } else {
                (0..n).map(|_| normal(&mut rng) * config.initializer_range as f32).collect()
            };
            vars.insert(name, Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)?);
        }
        Ok(Self::of(vars))
    }

    /// Reads `model.safetensors`; what the file lacks (a head, after pretraining) starts anew.
    ///
    /// # Errors
    /// The file cannot be read, or a tensor has another shape than the configuration says.
    pub fn read(path: &Path, config: &ModelConfig, seed: u64) -> Result<Self> {
        let params = Self::new(config, seed)?;
        for (name, tensor) in candle_core::safetensors::load(path, &Device::Cpu)? {
            let Some(var) = params.vars.get(&name) else {
                bail!("{name}: got a tensor that the model does not have")
            };
            if var.dims() != tensor.dims() {
                bail!("{name}: got shape {:?}, expected {:?}", tensor.dims(), var.dims());
            }
            var.set(&tensor.to_dtype(DType::F32)?)?;
        }
        Ok(params)
    }

    /// Writes `model.safetensors`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let tensors: std::collections::HashMap<String, Tensor> =
            self.vars.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect();
        candle_core::safetensors::save(&tensors, path)
    }

    /// A deep copy, which later steps do not change.
    ///
    /// # Errors
    /// No memory.
    pub fn snapshot(&self) -> Result<Self> {
        let copy = |(n, v): (&String, &Var)| Ok((n.clone(), Var::from_tensor(&v.as_tensor().copy()?)?));
        Ok(Self::of(self.vars.iter().map(copy).collect::<Result<_>>()?))
    }

    /// The tensor of a name.
    ///
    /// # Errors
    /// No such name.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        match self.tensors.get(name) {
            Some(tensor) => Ok(tensor),
            None => bail!("the model has no tensor {name}"),
        }
    }

    /// Names and variables, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.vars.iter().map(|(n, v)| (n.as_str(), v))
    }
}

/// Standard normal (Box & Muller 1958).
fn normal(rng: &mut impl Rng) -> f32 {
    let u: f64 = 1.0 - rng.random::<f64>();
    let v: f64 = rng.random();
    ((-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()) as f32
}
