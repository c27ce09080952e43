//! Trainable tensors by name.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{HeadKind, ModelConfig, heads};

/// Every trainable tensor under its Hugging Face BERT name, f32, all on one device.
#[derive(Clone, Debug)]
pub struct Params {
    vars: BTreeMap<String, Var>,
    /// What a model reads: the variables, or the same storage without them.
    tensors: BTreeMap<String, Tensor>,
}

const POSITIONS: &str = "bert.embeddings.position_embeddings.weight";

/// Names and shapes of tensors, in the order in which new ones are drawn.
#[derive(Default)]
pub(super) struct Shapes(Vec<(String, Vec<usize>)>);

impl Shapes {
    pub(super) fn add(&mut self, name: &str, shape: &[usize]) {
        self.0.push((name.to_owned(), shape.to_vec()));
    }

    /// A matrix from `input` to `out` with its bias.
    pub(super) fn linear(&mut self, name: &str, out: usize, input: usize) {
        self.add(&format!("{name}.weight"), &[out, input]);
        self.add(&format!("{name}.bias"), &[out]);
    }

    pub(super) fn norm(&mut self, name: &str, h: usize) {
        self.add(&format!("{name}.weight"), &[h]);
        self.add(&format!("{name}.bias"), &[h]);
    }
}

/// The tensors of the encoder and of the heads that the configuration names.
fn shapes_of(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let h = config.hidden_size;
    let mut all = Shapes::default();
    all.add("bert.embeddings.word_embeddings.weight", &[config.vocab_size, h]);
    all.add(POSITIONS, &[config.max_position_embeddings, h]);
    all.add("bert.embeddings.token_type_embeddings.weight", &[config.type_vocab_size, h]);
    all.norm("bert.embeddings.LayerNorm", h);
    for n in 0..config.num_hidden_layers {
        let layer = format!("bert.encoder.layer.{n}");
        let (a, f) = (config.attention_width(n), config.layer_size(n).ffn);
        for part in ["query", "key", "value"] {
            all.linear(&format!("{layer}.attention.self.{part}"), a, h);
        }
        all.linear(&format!("{layer}.attention.output.dense"), h, a);
        all.norm(&format!("{layer}.attention.output.LayerNorm"), h);
        all.linear(&format!("{layer}.intermediate.dense"), f, h);
        all.linear(&format!("{layer}.output.dense"), h, f);
        all.norm(&format!("{layer}.output.LayerNorm"), h);
    }
    if config.norm_position == "pre" {
        all.norm("bert.encoder.LayerNorm", h);
    }
    heads::mlm::shapes(config, &mut all);
    match config.head {
        HeadKind::Pair => heads::pair::shapes(config, &mut all),
        HeadKind::Pretraining => heads::segments::shapes(config, &mut all),
        HeadKind::Sequence => heads::sequence::shapes(config, &mut all),
    }
    all.0
}

impl Params {
    fn of(vars: BTreeMap<String, Var>) -> Self {
        let tensors = vars.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect();
        Self { vars, tensors }
    }

    /// Names and shapes of the tensors of a configuration.
    pub fn shapes(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
        shapes_of(config)
    }

    /// The same values for a model that is only run: no graph is built, so that every intermediate is freed as
    /// soon as it is read.
    #[must_use]
    pub fn frozen(&self) -> Self {
        let tensors = self.tensors.iter().map(|(n, t)| (n.clone(), t.detach())).collect();
        Self { vars: self.vars.clone(), tensors }
    }

    /// The same variables, some of them without a gradient.
    #[must_use]
    pub fn freeze(&self, frozen: impl Fn(&str) -> bool) -> Self {
        let tensor = |(n, v): (&String, &Var)| {
            let t = v.as_tensor();
            (n.clone(), if frozen(n) { t.detach() } else { t.clone() })
        };
        Self { vars: self.vars.clone(), tensors: self.vars.iter().map(tensor).collect() }
    }

    /// The same variables, some of them read through a mask of zeros and ones: what is masked has no gradient.
    ///
    /// # Errors
    /// A mask of another shape, or of a tensor that is not there.
    pub fn masked(&self, masks: &BTreeMap<String, Tensor>) -> Result<Self> {
        let mut tensors = self.tensors.clone();
        for (name, mask) in masks {
            tensors.insert(name.clone(), (self.get(name)? * mask)?);
        }
        Ok(Self { vars: self.vars.clone(), tensors })
    }

    /// New weights: normal with the configured deviation, layer norms at one, biases at zero.
    ///
    /// # Errors
    /// No memory.
    pub fn new(config: &ModelConfig, seed: u64) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut vars = BTreeMap::new();
        for (name, shape) in shapes_of(config) {
            let n: usize = shape.iter().product();
            let values: Vec<f32> = if name.ends_with("LayerNorm.weight") {
                vec![1.0; n]
            } else if name.ends_with("bias") {
                vec![0.0; n]
            } else {
                // The features of a pair pass no layer norm: their scale is kept (LeCun et al. 1998).
                let head = config.head == HeadKind::Pair && name.starts_with("head.");
                let deviation =
                    if head { (shape[1] as f32).powf(-0.5) } else { config.initializer_range as f32 };
                (0..n).map(|_| normal(&mut rng) * deviation).collect()
            };
            vars.insert(name, Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)?);
        }
        Ok(Self::of(vars))
    }

    /// Reads `model.safetensors`; what the file lacks (a head, after pretraining) starts anew.
    ///
    /// # Errors
    /// The file cannot be read, has a tensor of another shape than the configuration says, or lacks one of the
    /// encoder.
    pub fn read(path: &Path, config: &ModelConfig, seed: u64) -> Result<Self> {
        let params = Self::new(config, seed)?;
        let file = path.display();
        let tensors = load_tensors(path)?;
        for (name, tensor) in &tensors {
            let Some(var) = params.vars.get(name) else {
                bail!("{file}: got a tensor {name}, expected those of the configured model only")
            };
            if var.dims() != tensor.dims() {
                bail!(
                    "{file}: got {name} of shape {:?}, expected {:?}: it was made with another recipe, or another vocabulary",
                    tensor.dims(),
                    var.dims()
                );
            }
            var.set(&tensor.to_dtype(DType::F32)?)?;
        }
        let encoder = |name: &str| name.starts_with("bert.") && !name.starts_with("bert.pooler.");
        let lacks = |name: &&String| encoder(name) && !tensors.contains_key(*name);
        if let Some(name) = params.vars.keys().find(lacks) {
            bail!(
                "{file}: got no tensor {name}, expected every tensor of the encoder: it was made with another recipe"
            );
        }
        Ok(params)
    }

    /// The tensors of a whole `model.safetensors`.
    ///
    /// # Errors
    /// Not such a file, or one of another configuration.
    pub fn parse(bytes: &[u8], config: &ModelConfig) -> Result<Self> {
        let params = Self::new(config, 0)?;
        for (name, tensor) in candle_core::safetensors::load_buffer(bytes, &Device::Cpu)? {
            params.set(&name, &tensor)?;
        }
        Ok(params)
    }

    /// New weights, but encoder and masked-token head from the `model.safetensors` of another head's training. Where
    /// that one has more positions, the first of them.
    ///
    /// # Errors
    /// The file cannot be read, lacks one of these tensors, or has another shape of it.
    pub fn start_from(path: &Path, config: &ModelConfig, seed: u64) -> Result<Self> {
        let params = Self::new(config, seed)?;
        let found = load_tensors(path)?;
        for (name, var) in &params.vars {
            let own = name.starts_with("bert.") && !name.starts_with("bert.pooler.");
            if !own && !name.starts_with("cls.predictions.") {
                continue;
            }
            let Some(mut tensor) = found.get(name).cloned() else {
                bail!("{}: got no tensor {name}, expected one of shape {:?}", path.display(), var.dims())
            };
            if name == POSITIONS && tensor.rank() == 2 && tensor.dim(0)? > var.dim(0)? {
                tensor = tensor.narrow(0, 0, var.dim(0)?)?;
            }
            if var.dims() != tensor.dims() {
                let at = path.display();
                bail!("{at}: {name}: got shape {:?}, expected {:?}", tensor.dims(), var.dims());
            }
            var.set(&tensor.to_dtype(DType::F32)?.contiguous()?)?;
        }
        Ok(params)
    }

    /// Writes `model.safetensors`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let tensors: HashMap<String, Tensor> =
            self.vars.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect();
        save_tensors(&tensors, path)
    }

    /// A deep copy, which later steps do not change.
    ///
    /// # Errors
    /// No memory.
    pub fn snapshot(&self) -> Result<Self> {
        let copy = |(n, v): (&String, &Var)| Ok((n.clone(), Var::from_tensor(&v.as_tensor().copy()?)?));
        Ok(Self::of(self.vars.iter().map(copy).collect::<Result<_>>()?))
    }

    /// Where the tensors are.
    pub fn device(&self) -> &Device {
        self.vars.values().next().map_or(&Device::Cpu, |var| var.device())
    }

    /// The same values on a device: these variables where they are there, else copies of them, trainable all.
    ///
    /// # Errors
    /// No memory there.
    pub fn to_device(self, device: &Device) -> Result<Self> {
        if self.device().same_device(device) {
            return Ok(self);
        }
        let there = |(n, v): (&String, &Var)| {
            Ok((n.clone(), Var::from_tensor(&v.as_tensor().detach().to_device(device)?)?))
        };
        Ok(Self::of(self.vars.iter().map(there).collect::<Result<_>>()?))
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

    /// Gives a tensor new values, which every copy without a graph follows.
    ///
    /// # Errors
    /// No such name, or another shape.
    pub fn set(&self, name: &str, values: &Tensor) -> Result<()> {
        match self.vars.get(name) {
            Some(var) if var.dims() == values.dims() => var.set(values),
            Some(var) => bail!("{name}: got shape {:?}, expected {:?}", values.dims(), var.dims()),
            None => bail!("the model has no tensor {name}"),
        }
    }

    /// Moves every tensor towards `other`'s: of the old value `keep` is left.
    ///
    /// # Errors
    /// Another model's parameters.
    pub fn blend(&self, other: &Self, keep: f64) -> Result<()> {
        for (name, var) in &self.vars {
            let theirs = (other.get(name)?.detach() * (1.0 - keep))?;
            self.set(name, &((var.as_tensor().detach() * keep)? + theirs)?)?;
        }
        Ok(())
    }

    /// Names and variables, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.vars.iter().map(|(n, v)| (n.as_str(), v))
    }
}

/// Reads the tensors of a safetensors file.
///
/// # Errors
/// No such file, or one that is cut or no safetensors file.
pub(crate) fn load_tensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    candle_core::safetensors::load(path, &Device::Cpu).map_err(|e| {
        candle_core::Error::Msg(format!(
            "{}: got what is no whole safetensors file ({e}), expected a checkpoint; run the stage that makes it again",
            path.display()
        ))
    })
}

/// Writes a safetensors file.
///
/// # Errors
/// The disk is full, or gone.
pub(crate) fn save_tensors(tensors: &HashMap<String, Tensor>, path: &Path) -> Result<()> {
    candle_core::safetensors::save(tensors, path)
        .map_err(|e| candle_core::Error::Msg(format!("{} cannot be written: {e}", path.display())))
}

/// Standard normal (Box & Muller 1958).
fn normal(rng: &mut impl Rng) -> f32 {
    let u: f64 = 1.0 - rng.random::<f64>();
    let v: f64 = rng.random();
    ((-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()) as f32
}
