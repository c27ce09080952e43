//! The model that is explained, from a bundle or from an output folder.

use std::path::Path;

use candle_core::{Device, Tensor};
use locus_engine::{Bundle, Trust, Verdict, probability};
use locus_export::GraphWeights;
use locus_firmware_config::manifest::ProbabilityModel;
use locus_genome::{Consequence, InputMode, KmerTokenizer, Tokenizer, VariantEncoder};

use crate::{
    Error, Result,
    data::{Encoding, Pair},
    error::io_at,
    files, infer,
    model::{HeadKind, ModelConfig, Params},
    stage::read_json,
};

/// Weights that are only read, with everything that turns a variant into an answer.
#[derive(Debug)]
pub struct Model {
    /// Its configuration.
    pub config: ModelConfig,
    /// Its weights; no gradient is kept for them.
    pub params: Params,
    /// Makes its rows.
    pub encoder: VariantEncoder,
    /// Padded lengths.
    pub buckets: Vec<usize>,
    /// What its logits mean.
    pub probability: ProbabilityModel,
    /// Name, version and digest of a bundle; SHA-256 of a checkpoint's weights.
    pub name: String,
}

impl Model {
    /// The float weights of a bundle, read back from its graph. Signatures are not checked here.
    ///
    /// # Errors
    /// A bundle that is refused, or no variant-effect model.
    pub fn bundle(path: &Path) -> Result<Self> {
        let bundle = Bundle::open(path, &Trust::AllowUnsigned).map_err(locus_engine::Error::from)?;
        locus_engine::Scorer::check(&bundle)?;
        let part = |name: &str| {
            bundle.part(name).ok_or_else(|| Error::Data {
                what: path.display().to_string(),
                got: format!("no {name}"),
                expected: "a bundle that carries its configuration and float weights".into(),
            })
        };
        let config: ModelConfig = serde_json::from_slice(&part("config.json")?).map_err(|e| Error::Data {
            what: format!("{}: config.json", path.display()),
            got: e.to_string(),
            expected: "the configuration of a model".into(),
        })?;
        let weights = GraphWeights::parse(&config, &part("fp32.onnx")?)?;
        let params = Params::new(&config, 0)?;
        for (name, (shape, values)) in weights.into_tensors() {
            params.set(&name, &Tensor::from_vec(values, shape, &Device::Cpu)?)?;
        }
        let manifest = bundle.manifest();
        let Tokenizer::Dna(tokenizer) = *bundle.tokenizer() else {
            return Err(Error::Data {
                what: path.display().to_string(),
                got: format!("a model of {}", bundle.tokenizer().alphabet().as_str()),
                expected: "a variant-effect model".into(),
            });
        };
        let encoder = VariantEncoder::new(tokenizer, manifest.tokenizer.window_kmers as usize);
        Self {
            params: params.frozen(),
            encoder,
            buckets: manifest.graph.buckets.iter().map(|&b| b as usize).collect(),
            probability: manifest.probability.clone(),
            name: format!("{} {} {}", manifest.name, manifest.version, bundle.digest()),
            config,
        }
        .checked(path)
    }

    /// The best checkpoint of an output folder.
    ///
    /// # Errors
    /// A file that is missing or another one than the rest says, or no variant-effect model.
    pub fn run(folder: &Path) -> Result<Self> {
        let place = folder.join("best/config.json");
        let config = ModelConfig::read(&place).map_err(io_at(&place))?;
        let weights = folder.join("best/model.safetensors");
        let place = folder.join("best/tokenizer.json");
        let tokenizer = KmerTokenizer::from_json(&std::fs::read_to_string(&place).map_err(io_at(&place))?)?;
        let window = Encoding::read(&folder.join("best/window.json"))?.window;
        Self {
            params: Params::read(&weights, &config, 0)?.frozen(),
            encoder: VariantEncoder::new(tokenizer, window.kmers),
            buckets: window.buckets,
            probability: read_json(&folder.join("probability.json"))?,
            name: format!("checkpoint {}", files::sha256(&weights)?),
            config,
        }
        .checked(folder)
    }

    fn checked(self, path: &Path) -> Result<Self> {
        if self.config.head == HeadKind::Pair {
            return Ok(self);
        }
        Err(Error::Data {
            what: path.display().to_string(),
            got: format!("a model with the head {:?}", self.config.head),
            expected: "a variant-effect model, whose head is pair".into(),
        })
    }

    /// First logit of each pair, as served in f32.
    ///
    /// # Errors
    /// Rows that the model cannot take.
    pub fn logits(&self, pairs: &[Pair]) -> Result<Vec<f32>> {
        infer::logits(&self.config, &self.params, pairs, &self.buckets)
    }

    /// What the logit of a variant with this consequence means in a mode.
    ///
    /// # Errors
    /// A logit that is no number.
    pub fn judge(&self, mode: InputMode, consequence: Option<Consequence>, logit: f32) -> Result<Verdict> {
        probability::judge(&self.probability, mode, consequence, logit)
            .map_err(|e| locus_engine::Error::from(e).into())
    }
}
