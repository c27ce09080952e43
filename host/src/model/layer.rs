//! One encoder layer with its backward pass, recorded as a single node of the graph.

use candle_core::{Result, Tensor};

use super::{ModelConfig, Params, encoder::Context};
use crate::nn::{
    Attention, Dropout, attention, attention_gradient, bias_dropout_residual, bias_gelu, bias_gelu_gradient,
    column_sum, dropout, layer_norm, layer_norm_gradient, recorded,
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

/// Views of one flat tensor, none of them tracked.
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
    fn of(flat: &Tensor, h: usize, ffn: usize) -> Result<Self> {
        let mut at = 0;
        let mut vector = |n: usize| {
            at += n;
            flat.narrow(0, at - n, n)
        };
        let mut matrix = |out: usize, input: usize| vector(out * input)?.reshape((out, input));
        let qkv = matrix(3 * h, h)?;
        let qkv_bias = matrix(1, 3 * h)?.flatten_all()?;
        let dense = matrix(h, h)?;
        let mut row = |n: usize| matrix(1, n)?.flatten_all();
        let dense_bias = row(h)?;
        let norm1 = [row(h)?, row(h)?];
        let up = row(ffn * h)?.reshape((ffn, h))?;
        let up_bias = row(ffn)?;
        let down = row(h * ffn)?.reshape((h, ffn))?;
        Ok(Self {
            qkv,
            qkv_bias,
            dense,
            dense_bias,
            norm1,
            up,
            up_bias,
            down,
            down_bias: row(h)?,
            norm2: [row(h)?, row(h)?],
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
            heads: config.num_attention_heads,
            head_width: config.head_width(),
        },
        eps: config.layer_norm_eps as f32,
        pre: config.norm_position == "pre",
        drop: [context.dropout(), context.dropout()],
        weights: Weights::of(&parameters.detach(), config.hidden_size, config.intermediate_size)?,
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

    fn forward(
        &self,
        x: &Tensor,
        mask: &Tensor,
        see: impl Fn(&str, &Tensor) -> Result<()>,
    ) -> Result<(Tensor, Saved)> {
        let w = &self.weights;
        let attention_in = if self.pre { self.norm(x, &w.norm1)? } else { x.clone() };
        see("attention.qkv_input", &attention_in)?;
        let qkv = attention_in.matmul(&w.qkv.t()?)?;
        let context = attention(&qkv, &w.qkv_bias, mask, self.shape)?;
        see("attention.output_input", &context)?;
        let sum1 = bias_dropout_residual(&context.matmul(&w.dense.t()?)?, &w.dense_bias, x, self.drop[0])?;
        let middle = if self.pre { sum1.clone() } else { self.norm(&sum1, &w.norm1)? };
        let ffn_in = if self.pre { self.norm(&middle, &w.norm2)? } else { middle.clone() };
        see("ffn.input", &ffn_in)?;
        let inner_in = ffn_in.matmul(&w.up.t()?)?;
        let inner = bias_gelu(&inner_in, &w.up_bias)?;
        see("ffn.output_input", &inner)?;
        let sum2 = bias_dropout_residual(&inner.matmul(&w.down.t()?)?, &w.down_bias, &middle, self.drop[1])?;
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
        let product = |g: &Tensor, x: &Tensor| g.t()?.matmul(x);

        let (g, after2) = if self.pre { (g.clone(), None) } else { some_second(norm(&s.sum2, &w.norm2, g)?) };
        let d = dropout(&g, self.drop[1])?;
        let (down, down_bias) = (product(&d, &s.inner)?, column_sum(&d)?);
        let d = bias_gelu_gradient(&s.inner_in, &w.up_bias, &d.matmul(&w.down)?)?;
        let (up, up_bias) = (product(&d, &s.ffn_in)?, column_sum(&d)?);
        let d = d.matmul(&w.up)?;
        let (d, before2) = if self.pre { some_second(norm(&s.middle, &w.norm2, &d)?) } else { (d, None) };
        let g = (g + d)?;

        let (g, after1) = if self.pre { (g, None) } else { some_second(norm(&s.sum1, &w.norm1, &g)?) };
        let d = dropout(&g, self.drop[0])?;
        let (dense, dense_bias) = (product(&d, &s.context)?, column_sum(&d)?);
        let d = attention_gradient(&s.qkv, &w.qkv_bias, &s.mask, &d.matmul(&w.dense)?, self.shape)?;
        let (qkv, qkv_bias) = (product(&d, &s.attention_in)?, column_sum(&d)?);
        let d = d.matmul(&w.qkv)?;
        let (d, before1) = if self.pre { some_second(norm(&s.x, &w.norm1, &d)?) } else { (d, None) };
        let dx = (g + d)?;

        let all = [Some(qkv), Some(qkv_bias), Some(dense), Some(dense_bias), before1.or(after1)];
        let rest = [Some(up), Some(up_bias), Some(down), Some(down_bias), before2.or(after2)];
        let flat = all.iter().chain(&rest).flatten().map(Tensor::flatten_all).collect::<Result<Vec<_>>>()?;
        Ok((dx, Tensor::cat(&flat, 0)?))
    }
}

fn some_second<A, B>((a, b): (A, B)) -> (A, Option<B>) {
    (a, Some(b))
}
