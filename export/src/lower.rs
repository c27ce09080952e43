//! The encoder as ONNX nodes, and around it what each head reads and gives: a file a head.

mod pair;
mod sequence;
mod wide;

use std::cell::RefCell;

use locus_calibration::{CalibrationTable, quantise_per_channel};
use locus_onnx::{ModelProto, tensor_proto::DataType};
use prost::Message;

use crate::{
    ExportError, HeadKind, ModelConfig, WeightSource,
    draft::{Draft, float, int, ints, value},
};

/// Added to the score of a masked key: finite, so that half precision keeps it.
const MASKED: f32 = -10_000.0;

/// The graph in float32.
///
/// # Errors
/// A configuration or checkpoint that does not fit.
pub fn build_fp32(config: &ModelConfig, weights: &dyn WeightSource) -> Result<ModelProto, ExportError> {
    Lowering::new(config, weights, None).run()
}

/// The graph with signed 8-bit Q/DQ around the products with weights, but for those that the table keeps in float; the
/// rest stays float32.
///
/// # Errors
/// As [`build_fp32`], and an activation without a range.
pub fn build_int8(
    config: &ModelConfig,
    weights: &dyn WeightSource,
    table: &CalibrationTable,
) -> Result<ModelProto, ExportError> {
    Lowering::new(config, weights, Some(table)).run()
}

/// As [`build_int8`], the rest in float16: TensorRT 11 types a network as its file does, and runs fast what is not
/// quantised only where it is in half precision. Inputs and outputs stay as they are.
///
/// # Errors
/// As [`build_int8`], and a number beyond half precision.
pub fn build_int8_fp16(
    config: &ModelConfig,
    weights: &dyn WeightSource,
    table: &CalibrationTable,
) -> Result<ModelProto, ExportError> {
    Lowering { draft: Draft::half(), ..Lowering::new(config, weights, Some(table)) }.run()
}

/// As [`build_int8_fp16`], but activations are rounded to their codes in float32: ONNX Runtime's CPU kernel cuts half
/// precision off where ONNX rounds it to even (seen in 1.24). The graph that a machine without TensorRT can check.
///
/// # Errors
/// As [`build_int8_fp16`].
pub fn build_int8_fp16_rounding_in_fp32(
    config: &ModelConfig,
    weights: &dyn WeightSource,
    table: &CalibrationTable,
) -> Result<ModelProto, ExportError> {
    let draft = Draft::half().rounding_in_single();
    Lowering { draft, ..Lowering::new(config, weights, Some(table)) }.run()
}

/// A product with weights that a graph in INT8 may quantise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its output in the graph, which names block and part.
    pub name: String,
    /// The activation that goes in, by its name in the calibration table.
    pub activation: String,
    /// Numbers in its matrix.
    pub weights: usize,
}

/// The products that [`build_int8`] quantises, from input to output.
///
/// # Errors
/// As [`build_fp32`].
pub fn layers(config: &ModelConfig) -> Result<Vec<Layer>, ExportError> {
    let all = joined(config, &Zeros)?;
    let layer = |j: Joined| Layer {
        weights: j.input * j.each * j.names.len(),
        name: j.output,
        activation: j.activation,
    };
    Ok(all.into_iter().map(layer).filter(|l| !l.activation.is_empty()).collect())
}

/// A checkpoint of zeros.
struct Zeros;

impl WeightSource for Zeros {
    fn tensor(&self, _: &str, shape: &[usize]) -> Result<Vec<f32>, ExportError> {
        Ok(vec![0.0; shape.iter().product()])
    }
}

/// The bytes of the file: the same for the same model.
pub fn to_bytes(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

/// Matrices of a checkpoint that stand in the graph as one, transposed, with their biases: `output.weight` and
/// `output.bias`.
pub(crate) struct Joined {
    pub(crate) output: String,
    /// Empty where it is never quantised.
    pub(crate) activation: String,
    pub(crate) names: Vec<String>,
    pub(crate) input: usize,
    pub(crate) each: usize,
}

/// Every matrix of a configuration's graph; the values of `weights` do not matter.
pub(crate) fn joined(config: &ModelConfig, weights: &dyn WeightSource) -> Result<Vec<Joined>, ExportError> {
    let joined = RefCell::new(Vec::new());
    Lowering { joined: Some(&joined), ..Lowering::new(config, weights, None) }.run()?;
    Ok(joined.into_inner())
}

struct Lowering<'a> {
    config: &'a ModelConfig,
    weights: &'a dyn WeightSource,
    table: Option<&'a CalibrationTable>,
    draft: Draft,
    joined: Option<&'a RefCell<Vec<Joined>>>,
}

impl<'a> Lowering<'a> {
    fn new(
        config: &'a ModelConfig,
        weights: &'a dyn WeightSource,
        table: Option<&'a CalibrationTable>,
    ) -> Self {
        Self { config, weights, table, draft: Draft::default(), joined: None }
    }
}

impl Lowering<'_> {
    fn run(self) -> Result<ModelProto, ExportError> {
        let c = self.config;
        let fits = c.hidden_act == "gelu"
            && c.num_attention_heads > 0
            && c.hidden_size.is_multiple_of(c.num_attention_heads);
        if !fits {
            return Err(ExportError::Config {
                field: "hidden_act, num_attention_heads",
                got: format!("{}, {}", c.hidden_act, c.num_attention_heads),
                expected: "gelu, a divisor of hidden_size",
            });
        }
        if !c.layer_sizes_fit() {
            return Err(ExportError::Config {
                field: "layer_sizes",
                got: format!("{:?}", c.layer_sizes),
                expected: "heads and ffn of every layer, 1 or more and no more than before pruning",
            });
        }
        if c.norm_position != "pre" && c.norm_position != "post" {
            return Err(ExportError::Config {
                field: "norm_position",
                got: c.norm_position.clone(),
                expected: "pre or post",
            });
        }
        match c.head {
            HeadKind::Pair => self.pair(),
            HeadKind::Sequence => self.sequence(),
            HeadKind::Pretraining => Err(ExportError::Config {
                field: "head",
                got: "pretraining".into(),
                expected: "pair or sequence: fine-tune the model first",
            }),
        }
    }

    /// The graph whose last value is `logits`.
    fn finish(
        mut self,
        name: &str,
        logits: &str,
        tokens: &[&str],
        features: Option<usize>,
    ) -> Result<ModelProto, ExportError> {
        self.draft.leaving(logits, "logits");
        let mut inputs: Vec<_> =
            tokens.iter().map(|n| value(n, DataType::Int64, &["batch", "tokens"])).collect();
        inputs.extend(features.map(|n| value("features", DataType::Float, &["batch", &n.to_string()])));
        let labels = self.config.labels.len().to_string();
        let outputs = vec![value("logits", DataType::Float, &["batch", &labels])];
        self.draft.finish(name, inputs, outputs)
    }

    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ExportError> {
        self.weights.tensor(name, shape)
    }

    /// Float bias or norm parameter as a constant.
    fn vector(&mut self, name: &str, n: usize) -> Result<String, ExportError> {
        let values = self.get(name, &[n])?;
        Ok(self.draft.floats(name, &[n], &values))
    }

    fn norm(&mut self, x: &str, name: &str, output: &str) -> Result<String, ExportError> {
        let h = self.config.hidden_size;
        let (w, b) = (self.vector(&format!("{name}.weight"), h)?, self.vector(&format!("{name}.bias"), h)?);
        let attributes = vec![int("axis", -1), float("epsilon", self.config.layer_norm_eps as f32)];
        Ok(self.draft.node("LayerNormalization", &[x, &w, &b], output, attributes))
    }

    /// x times the transposed weights of `names` (joined along their outputs), plus their biases. In an
    /// INT8 graph both factors pass through Q/DQ; `activation` names the range of x, and is empty where the product stays
    /// float in every graph.
    fn linear(
        &mut self,
        x: &str,
        names: &[String],
        input: usize,
        each: usize,
        activation: &str,
        output: &str,
    ) -> Result<String, ExportError> {
        if let Some(joined) = self.joined {
            let (output, activation, names) = (output.to_owned(), activation.to_owned(), names.to_vec());
            joined.borrow_mut().push(Joined { output, activation, names, input, each });
        }
        let out = each * names.len();
        let mut matrix = vec![0.0; input * out];
        let mut bias = Vec::with_capacity(out);
        for (block, name) in names.iter().enumerate() {
            let w = self.get(&format!("{name}.weight"), &[each, input])?;
            for (o, row) in w.chunks_exact(input).enumerate() {
                for (i, &v) in row.iter().enumerate() {
                    matrix[i * out + block * each + o] = v;
                }
            }
            bias.extend(self.get(&format!("{name}.bias"), &[each])?);
        }
        let (x, w) = self.factors(x, &matrix, [input, out], activation, output)?;
        let b = self.draft.floats(&format!("{output}.bias"), &[out], &bias);
        let product = self.draft.node("MatMul", &[&x, &w], &format!("{output}.product"), vec![]);
        Ok(self.draft.node("Add", &[&product, &b], output, vec![]))
    }

    fn factors(
        &mut self,
        x: &str,
        matrix: &[f32],
        dims: [usize; 2],
        activation: &str,
        output: &str,
    ) -> Result<(String, String), ExportError> {
        let weight = format!("{output}.weight");
        let quantised = |table: &&CalibrationTable| !activation.is_empty() && !table.float.contains(output);
        let Some(table) = self.table.filter(quantised) else {
            return Ok((x.to_owned(), self.draft.floats(&weight, &dims, matrix)));
        };
        let of = |name: &str| {
            let name = name.to_owned();
            |source| ExportError::Quantise { name, source }
        };
        let range =
            table.ranges.get(activation).ok_or_else(|| ExportError::Range { name: activation.to_owned() })?;
        let scale = range.params().map_err(of(activation))?.scale;
        let d = &mut self.draft;
        let x = d.rounded(x, activation, scale);
        let (codes, scales) = quantise_per_channel(matrix, dims[1]).map_err(of(&weight))?;
        let w = d.codes(&weight, &dims, &codes);
        let s = d.floats(&format!("{weight}.scale"), &[dims[1]], &scales);
        let z = d.codes(&format!("{weight}.zero_point"), &[dims[1]], &vec![0; dims[1]]);
        let axis = vec![int("axis", 1)];
        let w = d.node("DequantizeLinear", &[&w, &s, &z], &format!("{weight}.dequantised"), axis);
        Ok((x, w))
    }

    /// GELU of what goes into the product `reader`: by tanh where that rounds it to codes.
    fn gelu(&mut self, x: &str, output: &str, reader: &str) -> String {
        let codes = self.table.is_some_and(|table| !table.float.contains(reader));
        if codes && !self.draft.is_half() {
            self.gelu_by_tanh(x, output)
        } else {
            self.gelu_in_float(x, output)
        }
    }

    /// x·Φ(x), spelled out, as opset 17 has no Gelu; engines fuse it.
    fn gelu_in_float(&mut self, x: &str, output: &str) -> String {
        let d = &mut self.draft;
        let root = d.floats("gelu.sqrt2", &[], &[std::f32::consts::SQRT_2]);
        let (one, half) = (d.floats("gelu.one", &[], &[1.0]), d.floats("gelu.half", &[], &[0.5]));
        let scaled = d.node("Div", &[x, &root], &format!("{output}.scaled"), vec![]);
        let erf = d.node("Erf", &[&scaled], &format!("{output}.erf"), vec![]);
        let sum = d.node("Add", &[&erf, &one], &format!("{output}.sum"), vec![]);
        let product = d.node("Mul", &[x, &sum], &format!("{output}.product"), vec![]);
        d.node("Mul", &[&product, &half], output, vec![])
    }

    /// x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2, within 0.0005 of x·Φ(x) (Hendrycks and Gimpel 2016, "Gaussian Error
    /// Linear Units"): less than what the codes behind it round away, and a third faster on a CPU. Not in half precision,
    /// where the square can overflow.
    fn gelu_by_tanh(&mut self, x: &str, output: &str) -> String {
        let d = &mut self.draft;
        let (one, half) = (d.floats("gelu.one", &[], &[1.0]), d.floats("gelu.half", &[], &[0.5]));
        let of_cube = d.floats("gelu.of_cube", &[], &[0.044_715]);
        let root = d.floats("gelu.sqrt_2_pi", &[], &[(2.0 * std::f32::consts::FRAC_1_PI).sqrt()]);
        // Without Pow, which tract computes number by number.
        let square = d.node("Mul", &[x, &of_cube], &format!("{output}.of_cube"), vec![]);
        let square = d.node("Mul", &[&square, x], &format!("{output}.of_square"), vec![]);
        let factor = d.node("Add", &[&square, &one], &format!("{output}.factor"), vec![]);
        let scaled = d.node("Mul", &[x, &root], &format!("{output}.scaled"), vec![]);
        let inner = d.node("Mul", &[&scaled, &factor], &format!("{output}.inner"), vec![]);
        let tanh = d.node("Tanh", &[&inner], &format!("{output}.tanh"), vec![]);
        let sum = d.node("Add", &[&tanh, &one], &format!("{output}.sum"), vec![]);
        let halved = d.node("Mul", &[x, &half], &format!("{output}.halved"), vec![]);
        d.node("Mul", &[&halved, &sum], output, vec![])
    }

    /// Hidden states [rows, tokens, H] of the values `ids`, `track` and `mask`, all [rows, tokens]; `like` is an
    /// input whose tokens are as many.
    fn encoder(&mut self, [ids, track, mask]: [&str; 3], like: &str) -> Result<String, ExportError> {
        let c = self.config;
        let h = c.hidden_size;
        let table = |n: &str| format!("bert.embeddings.{n}_embeddings.weight");
        let (word, position, kind) = (table("word"), table("position"), table("token_type"));
        for (name, rows) in
            [(&word, c.vocab_size), (&position, c.max_position_embeddings), (&kind, c.type_vocab_size)]
        {
            let values = self.get(name, &[rows, h])?;
            self.draft.floats(name, &[rows, h], &values);
        }
        let d = &mut self.draft;
        let words = d.node("Gather", &[&word, ids], "embeddings.words", vec![int("axis", 0)]);
        let tracks = d.node("Gather", &[&kind, track], "embeddings.tracks", vec![int("axis", 0)]);
        let shape = d.node("Shape", &[like], "shape", vec![]);
        let (zero, one, two) = (d.longs("axis.0", &[0]), d.longs("axis.1", &[1]), d.longs("axis.2", &[2]));
        let tokens = d.node("Slice", &[&shape, &one, &two, &zero], "tokens", vec![]);
        let positions = d.node("Slice", &[&position, &zero, &tokens, &zero], "embeddings.positions", vec![]);
        let sum = d.node("Add", &[&words, &positions], "embeddings.words_positions", vec![]);
        let sum = d.node("Add", &[&sum, &tracks], "embeddings.sum", vec![]);
        let attend = d.cast(mask, "mask.float");
        let (unit, masked) = (d.floats("mask.one", &[], &[1.0]), d.floats("mask.masked", &[], &[MASKED]));
        let hidden = d.node("Sub", &[&unit, &attend], "mask.inverse", vec![]);
        let hidden = d.node("Mul", &[&hidden, &masked], "mask.scores", vec![]);
        let axes = d.longs("axes.1_2", &[1, 2]);
        d.node("Unsqueeze", &[&hidden, &axes], "mask.additive", vec![]);
        let mut x = self.norm(&sum, "bert.embeddings.LayerNorm", "embeddings")?;
        for n in 0..c.num_hidden_layers {
            x = self.layer(n, &x)?;
        }
        if c.norm_position == "pre" { self.norm(&x, "bert.encoder.LayerNorm", "hidden") } else { Ok(x) }
    }

    fn layer(&mut self, n: usize, x: &str) -> Result<String, ExportError> {
        let c = self.config;
        let (h, a, f) = (c.hidden_size, c.attention_width(n), c.layer_size(n).ffn);
        let (name, l) = (format!("bert.encoder.layer.{n}"), format!("layer.{n}"));
        let pre = c.norm_position == "pre";
        let (norm1, norm2) =
            (format!("{name}.attention.output.LayerNorm"), format!("{name}.output.LayerNorm"));
        let input = if pre { self.norm(x, &norm1, &format!("{l}.attention.norm"))? } else { x.to_owned() };
        let parts = ["query", "key", "value"].map(|p| format!("{name}.attention.self.{p}"));
        let qkv = self.linear(
            &input,
            &parts,
            h,
            a,
            &format!("{l}.attention.qkv_input"),
            &format!("{l}.attention.qkv"),
        )?;
        let seen = self.attention(&l, &qkv, c.layer_size(n).heads);
        let dense = [format!("{name}.attention.output.dense")];
        let y = self.linear(
            &seen,
            &dense,
            a,
            h,
            &format!("{l}.attention.output_input"),
            &format!("{l}.attention.output"),
        )?;
        let mut x = self.draft.node("Add", &[x, &y], &format!("{l}.attention.residual"), vec![]);
        if !pre {
            x = self.norm(&x, &norm1, &format!("{l}.attention.norm"))?;
        }
        let input = if pre { self.norm(&x, &norm2, &format!("{l}.ffn.norm"))? } else { x.clone() };
        let inner = self.linear(
            &input,
            &[format!("{name}.intermediate.dense")],
            h,
            f,
            &format!("{l}.ffn.input"),
            &format!("{l}.ffn.inner"),
        )?;
        let inner = self.gelu(&inner, &format!("{l}.ffn.gelu"), &format!("{l}.ffn.output"));
        let y = self.linear(
            &inner,
            &[format!("{name}.output.dense")],
            f,
            h,
            &format!("{l}.ffn.output_input"),
            &format!("{l}.ffn.output"),
        )?;
        let x = self.draft.node("Add", &[&x, &y], &format!("{l}.ffn.residual"), vec![]);
        if pre { Ok(x) } else { self.norm(&x, &norm2, &format!("{l}.ffn.norm")) }
    }

    fn attention(&mut self, l: &str, qkv: &str, heads: usize) -> String {
        let c = self.config;
        // Layers with all their heads share one shape.
        let shape = |what: &str| match heads {
            all if all == c.num_attention_heads => format!("attention.{what}"),
            fewer => format!("attention.{what}.{fewer}"),
        };
        let (heads, d_head) = (heads as i64, c.head_width() as i64);
        let d = &mut self.draft;
        let at = |part: &str| format!("{l}.attention.{part}");
        d.split(qkv, &[&at("q"), &at("k"), &at("v")]);
        let split = d.longs(&shape("split_heads"), &[0, 0, heads, d_head]);
        let join = d.longs(&shape("join_heads"), &[0, 0, heads * d_head]);
        let mut part = |p: &str, order: &[i64]| {
            let shaped = d.node("Reshape", &[&at(p), &split], &at(&format!("{p}.heads")), vec![]);
            d.node("Transpose", &[&shaped], &at(&format!("{p}.transposed")), vec![ints("perm", order)])
        };
        let (q, k, v) = (part("q", &[0, 2, 1, 3]), part("k", &[0, 2, 3, 1]), part("v", &[0, 2, 1, 3]));
        let root = d.floats("attention.sqrt_width", &[], &[(d_head as f32).sqrt()]);
        let scores = d.node("MatMul", &[&q, &k], &at("products"), vec![]);
        let scores = d.node("Div", &[&scores, &root], &at("scores"), vec![]);
        let scores = d.node("Add", &[&scores, "mask.additive"], &at("masked"), vec![]);
        let p = d.node("Softmax", &[&scores], &at("probabilities"), vec![int("axis", -1)]);
        let seen = d.node("MatMul", &[&p, &v], &at("context.heads"), vec![]);
        let seen =
            d.node("Transpose", &[&seen], &at("context.transposed"), vec![ints("perm", &[0, 2, 1, 3])]);
        d.node("Reshape", &[&seen, &join], &at("context"), vec![])
    }

    /// Weighted mean over tokens: `weight` [batch, tokens] and `x` [batch, tokens, H] to [batch, H].
    fn pool(&mut self, weight: &str, x: &str, output: &str) -> String {
        let sum = self.pool_row(weight, x, &format!("{output}.sum"));
        let one = self.draft.longs("axis.1", &[1]);
        self.draft.node("Squeeze", &[&sum, &one], output, vec![])
    }

    /// The same as [batch, 1, H].
    fn pool_row(&mut self, weight: &str, x: &str, output: &str) -> String {
        let one = self.draft.longs("axis.1", &[1]);
        let row = self.draft.node("Unsqueeze", &[weight, &one], &format!("{output}.weights"), vec![]);
        self.draft.node("MatMul", &[&row, x], output, vec![])
    }

    /// `counts` [batch, tokens] divided by its sum per row, or by 1 where that is 0.
    fn share(&mut self, counts: &str, output: &str) -> String {
        let one = self.draft.longs("axis.1", &[1]);
        let unit = self.draft.floats("mask.one", &[], &[1.0]);
        let total = self.draft.node(
            "ReduceSum",
            &[counts, &one],
            &format!("{output}.total"),
            vec![int("keepdims", 1)],
        );
        let total = self.draft.node("Max", &[&total, &unit], &format!("{output}.divisor"), vec![]);
        self.draft.node("Div", &[counts, &total], output, vec![])
    }
}

#[cfg(test)]
pub(crate) mod tests;
