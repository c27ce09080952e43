//! One encoder layer with its backward pass, recorded as a single node of the graph.

use candle_core::{DType, Result, Tensor};

use super::{ModelConfig, Params, encoder::Context};
use crate::nn::{
    Attention, Dropout, attention, attention_gradient, bias_dropout_residual, bias_gelu, bias_gelu_gradient,
    column_sum, dropout, layer_norm, layer_norm_gradient, matmul, recorded,
};

/// Tensors of a layer in the order in which [`Weights`] cuts them and [`Gradients`] joins theirs.
const NAMES: [&str; 16] = [
    "attention.self.query.weight",
    "attention.self.key.weight",
    "attention.self.value.weight",
    "attention.self.query.bias",
    "attention.self.key.bias",
    "attention.self.value.bias",
    "attention.output.dense.weight",
    "attention.output.dense.bias",
    "attention.output.LayerNorm.weight",
    "attention.output.LayerNorm.bias",
    "intermediate.dense.weight",
    "intermediate.dense.bias",
    "output.dense.weight",
    "output.dense.bias",
    "output.LayerNorm.weight",
    "output.LayerNorm.bias",
];

/// Views of one flat tensor, none of them tracked. What enters a matrix product, attention or GELU is in the type that
/// these are computed in.
struct Weights {
    qkv: Tensor,
    qkv_bias: Tensor,
    dense: Tensor,
    dense_bias: Tensor,
    norm1: [Tensor; 2],
    up: Tensor,
    up_bias: Tensor,
    down: Tensor,
    down_bias: Tensor,
    norm2: [Tensor; 2],
}

impl Weights {
    /// `h` is the width of a hidden state, `a` that of all heads together.
    fn of(flat: &Tensor, [h, a, ffn]: [usize; 3], precision: DType) -> Result<Self> {
        let low = flat.to_dtype(precision)?;
        let mut at = 0;
        let mut next = |of: &Tensor, n: usize| {
            at += n;
            of.narrow(0, at - n, n)
        };
        Ok(Self {
            qkv: next(&low, 3 * a * h)?.reshape((3 * a, h))?,
            qkv_bias: next(&low, 3 * a)?,
            dense: next(&low, h * a)?.reshape((h, a))?,
            dense_bias: next(flat, h)?,
            norm1: [next(flat, h)?, next(flat, h)?],
            up: next(&low, ffn * h)?.reshape((ffn, h))?,
            up_bias: next(&low, ffn)?,
            down: next(&low, h * ffn)?.reshape((h, ffn))?,
            down_bias: next(flat, h)?,
            norm2: [next(flat, h)?, next(flat, h)?],
        })
    }
}

/// What the backward pass needs of the forward pass.
struct Saved {
    x: Tensor,
    mask: Tensor,
    attention_in: Tensor,
    qkv: Tensor,
    context: Tensor,
    /// After the first residual.
    sum1: Tensor,
    /// What the second residual adds to.
    middle: Tensor,
    ffn_in: Tensor,
    inner_in: Tensor,
    inner: Tensor,
    /// After the second residual.
    sum2: Tensor,
}

struct Layer {
    shape: Attention,
    eps: f32,
    /// Layer norm before each sub-layer, not after.
    pre: bool,
    drop: [Dropout; 2],
    precision: DType,
    weights: Weights,
}

/// Hidden states [rows·tokens, H] after layer `n`, from those before it and the mask [rows, tokens].
pub(super) fn layer(
    (config, params): (&ModelConfig, &Params),
    n: usize,
    x: &Tensor,
    mask: &Tensor,
    context: &Context<'_>,
) -> Result<Tensor> {
    let flat = |name: &&str| params.get(&format!("bert.encoder.layer.{n}.{name}"))?.flatten_all();
    let parameters = Tensor::cat(&NAMES.iter().map(flat).collect::<Result<Vec<_>>>()?, 0)?;
    let (batch, tokens) = mask.dims2()?;
    let layer = Layer {
        shape: Attention {
            batch,
            tokens,
            heads: config.layer_size(n).heads,
            head_width: config.head_width(),
        },
        eps: config.layer_norm_eps as f32,
        pre: config.norm_position == "pre",
        drop: [context.dropout(), context.dropout()],
        precision: context.computes_in(),
        weights: Weights::of(
            &parameters.detach(),
            [config.hidden_size, config.attention_width(n), config.layer_size(n).ffn],
            context.computes_in(),
        )?,
    };
    let (output, saved) =
        layer.forward(&x.detach(), mask, |name, values| context.see(&format!("layer.{n}.{name}"), values))?;
    if context.checkpoints() {
        let (input, mask) = (saved.x, saved.mask);
        return recorded(x, &parameters, &output, move |g| {
            let (_, saved) = layer.forward(&input, &mask, |_, _| Ok(()))?;
            layer.backward(&saved, g)
        });
    }
    recorded(x, &parameters, &output, move |g| layer.backward(&saved, g))
}

impl Layer {
    fn norm(&self, x: &Tensor, [weight, bias]: &[Tensor; 2]) -> Result<Tensor> {
        layer_norm(x, weight, bias, self.eps)
    }

    /// To the type of matrix products.
    fn low(&self, x: &Tensor) -> Result<Tensor> {
        x.to_dtype(self.precision)
    }

    fn forward(
        &self,
        x: &Tensor,
        mask: &Tensor,
        see: impl Fn(&str, &Tensor) -> Result<()>,
    ) -> Result<(Tensor, Saved)> {
        let w = &self.weights;
        let attention_in = self.low(&if self.pre { self.norm(x, &w.norm1)? } else { x.clone() })?;
        see("attention.qkv_input", &attention_in)?;
        let qkv = matmul(&attention_in, &w.qkv.t()?)?;
        let context = attention(&qkv, &w.qkv_bias, mask, self.shape)?;
        see("attention.output_input", &context)?;
        let sum1 = matmul(&context, &w.dense.t()?)?.to_dtype(DType::F32)?;
        let sum1 = bias_dropout_residual(&sum1, &w.dense_bias, x, self.drop[0])?;
        let middle = if self.pre { sum1.clone() } else { self.norm(&sum1, &w.norm1)? };
        let ffn_in = self.low(&if self.pre { self.norm(&middle, &w.norm2)? } else { middle.clone() })?;
        see("ffn.input", &ffn_in)?;
        let inner_in = matmul(&ffn_in, &w.up.t()?)?;
        let inner = bias_gelu(&inner_in, &w.up_bias)?;
        see("ffn.output_input", &inner)?;
        let sum2 = matmul(&inner, &w.down.t()?)?.to_dtype(DType::F32)?;
        let sum2 = bias_dropout_residual(&sum2, &w.down_bias, &middle, self.drop[1])?;
        let output = if self.pre { sum2.clone() } else { self.norm(&sum2, &w.norm2)? };
        let (x, mask) = (x.clone(), mask.clone());
        Ok((
            output,
            Saved { x, mask, attention_in, qkv, context, sum1, middle, ffn_in, inner_in, inner, sum2 },
        ))
    }

    /// Gradients of the input and of the flat parameters.
    fn backward(&self, s: &Saved, g: &Tensor) -> Result<(Tensor, Tensor)> {
        let w = &self.weights;
        let norm = |x: &Tensor, of: &[Tensor; 2], g: &Tensor| layer_norm_gradient(x, &of[0], g, self.eps);
        let product = |g: &Tensor, x: &Tensor| matmul(&g.t()?, x);

        let (g, after2) = if self.pre { (g.clone(), None) } else { some_second(norm(&s.sum2, &w.norm2, g)?) };
        let d = dropout(&g, self.drop[1])?;
        let (low, down_bias) = (self.low(&d)?, column_sum(&d)?);
        let down = product(&low, &s.inner)?;
        let d = bias_gelu_gradient(&s.inner_in, &w.up_bias, &matmul(&low, &w.down)?)?;
        let (up, up_bias) = (product(&d, &s.ffn_in)?, column_sum(&d)?);
        let d = matmul(&d, &w.up)?.to_dtype(DType::F32)?;
        let (d, before2) = if self.pre { some_second(norm(&s.middle, &w.norm2, &d)?) } else { (d, None) };
        let g = (g + d)?;

        let (g, after1) = if self.pre { (g, None) } else { some_second(norm(&s.sum1, &w.norm1, &g)?) };
        let d = dropout(&g, self.drop[0])?;
        let (low, dense_bias) = (self.low(&d)?, column_sum(&d)?);
        let dense = product(&low, &s.context)?;
        let d = attention_gradient(&s.qkv, &w.qkv_bias, &s.mask, &matmul(&low, &w.dense)?, self.shape)?;
        let (qkv, qkv_bias) = (product(&d, &s.attention_in)?, column_sum(&d)?);
        let d = matmul(&d, &w.qkv)?.to_dtype(DType::F32)?;
        let (d, before1) = if self.pre { some_second(norm(&s.x, &w.norm1, &d)?) } else { (d, None) };
        let dx = (g + d)?;

        let all = [Some(qkv), Some(qkv_bias), Some(dense), Some(dense_bias), before1.or(after1)];
        let rest = [Some(up), Some(up_bias), Some(down), Some(down_bias), before2.or(after2)];
        let flat = |t: &Tensor| t.flatten_all()?.to_dtype(DType::F32);
        let flat = all.iter().chain(&rest).flatten().map(flat).collect::<Result<Vec<_>>>()?;
        Ok((dx, Tensor::cat(&flat, 0)?))
    }
}

fn some_second<A, B>((a, b): (A, B)) -> (A, Option<B>) {
    (a, Some(b))
}
