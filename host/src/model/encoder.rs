//! The BERT encoder (Devlin et al. 2019), with layer norm before (Xiong et al. 2020) or after each
//! sub-layer.

use std::cell::Cell;

use candle_core::{DType, Result, Tensor};

use super::{ModelConfig, Params, layer::layer};
use crate::nn::{Dropout, dropout, embed, layer_norm};

/// A batch of token rows, padded to one length.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Number of rows.
    pub rows: usize,
    /// Tokens per row.
    pub tokens: usize,
    /// Token ids, row after row.
    pub ids: Vec<u32>,
    /// Track codes.
    pub track: Vec<u32>,
    /// 1 = attend, 0 = padding.
    pub mask: Vec<f32>,
}

/// Sees what enters each matrix product, under the names of the calibration table.
pub trait Observer {
    /// `values` may be any number of rows.
    fn observe(&mut self, name: &str, values: &Tensor) -> Result<()>;
}

/// How a forward pass is run.
pub struct Context<'a> {
    rate: f64,
    seed: Cell<u64>,
    checkpointing: bool,
    precision: DType,
    observer: Option<std::cell::RefCell<&'a mut dyn Observer>>,
}

impl<'a> Context<'a> {
    /// For training: dropout at `rate`, its places chosen by `seed`.
    pub fn train(rate: f64, seed: u64) -> Self {
        Self { rate, seed: Cell::new(seed), checkpointing: false, precision: DType::F32, observer: None }
    }

    /// Whether a layer keeps its input only for the backward pass and is run again there (Chen et al. 2016).
    #[must_use]
    pub fn checkpointing(self, checkpointing: bool) -> Self {
        Self { checkpointing, ..self }
    }

    /// Type of the matrix products, attention and GELU of the layers (Micikevicius et al. 2018): f32, bf16 or f16.
    /// Parameters, layer norms, the sums over sub-layers, heads and losses are f32 whatever it is.
    #[must_use]
    pub fn precision(self, precision: DType) -> Self {
        Self { precision, ..self }
    }

    pub(super) const fn computes_in(&self) -> DType {
        self.precision
    }

    pub(super) const fn checkpoints(&self) -> bool {
        self.checkpointing
    }

    /// For evaluation: nothing is dropped.
    pub fn eval() -> Self {
        Self::train(0.0, 0)
    }

    /// For calibration.
    pub fn observe(observer: &'a mut dyn Observer) -> Self {
        Self { observer: Some(std::cell::RefCell::new(observer)), ..Self::eval() }
    }

    pub(super) fn dropout(&self) -> Dropout {
        if self.rate == 0.0 {
            return Dropout::NONE;
        }
        let seed = self.seed.get().wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        self.seed.set(seed);
        Dropout::new(self.rate as f32, seed ^ (seed >> 29))
    }

    pub(super) fn see(&self, name: &str, values: &Tensor) -> Result<()> {
        match &self.observer {
            Some(observer) => observer.borrow_mut().observe(name, values),
            None => Ok(()),
        }
    }
}

/// The encoder over given parameters.
pub struct Encoder<'a> {
    config: &'a ModelConfig,
    params: &'a Params,
}

pub(super) struct Linear<'a> {
    pub(super) weight: &'a Tensor,
    pub(super) bias: &'a Tensor,
}

impl<'a> Linear<'a> {
    pub(super) fn of(params: &'a Params, name: &str) -> Result<Self> {
        Ok(Self {
            weight: params.get(&format!("{name}.weight"))?,
            bias: params.get(&format!("{name}.bias"))?,
        })
    }

    /// x [n, in] times the transposed weight, without the bias.
    pub(super) fn product(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight.t()?)
    }
}

impl<'a> Encoder<'a> {
    /// An encoder over `params`.
    pub const fn new(config: &'a ModelConfig, params: &'a Params) -> Self {
        Self { config, params }
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let (w, b) = (self.params.get(&format!("{name}.weight"))?, self.params.get(&format!("{name}.bias"))?);
        layer_norm(x, w, b, self.config.layer_norm_eps as f32)
    }

    /// Final hidden states [rows·tokens, H].
    ///
    /// # Errors
    /// Rows that the configuration cannot take.
    pub fn forward(&self, rows: &Rows, context: &Context<'_>) -> Result<Tensor> {
        self.encode(&self.embed(rows)?, rows, context)
    }

    /// Sum of word, position and track embeddings [rows·tokens, H].
    ///
    /// # Errors
    /// Rows that the configuration cannot take.
    pub fn embed(&self, rows: &Rows) -> Result<Tensor> {
        let table = |n: &str| self.params.get(&format!("bert.embeddings.{n}_embeddings.weight"));
        embed(table("word")?, table("position")?, table("token_type")?, &rows.ids, &rows.track, rows.tokens)
    }

    /// Final hidden states [rows·tokens, H] from embeddings of [`Encoder::embed`] or what stands in their place.
    ///
    /// # Errors
    /// Embeddings of other rows.
    pub fn encode(&self, embedded: &Tensor, rows: &Rows, context: &Context<'_>) -> Result<Tensor> {
        let x = self.norm(embedded, "bert.embeddings.LayerNorm")?;
        let mut x = dropout(&x, context.dropout())?;
        let mask = Tensor::from_vec(rows.mask.clone(), (rows.rows, rows.tokens), x.device())?;
        for n in 0..self.config.num_hidden_layers {
            x = layer((self.config, self.params), n, &x, &mask, context)?;
        }
        if self.config.norm_position == "pre" { self.norm(&x, "bert.encoder.LayerNorm") } else { Ok(x) }
    }
}
