//! Weights out of a graph that [`crate::build_fp32`] wrote: what a bundle holds of a checkpoint.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, btree_map::Entry},
};

use locus_onnx::{ModelProto, TensorProto, tensor_proto::DataType};
use prost::Message;

use crate::{ExportError, LayerSize, ModelConfig, WeightSource, lower::joined};

/// The tensors of a graph under a checkpoint's names, as f32. The masked-token head is not among them: no graph has
/// it.
#[derive(Debug, Default)]
pub struct GraphWeights(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

/// What a configuration asks for, without any value.
#[derive(Default)]
struct Asked(RefCell<Vec<(String, Vec<usize>)>>);

impl WeightSource for Asked {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ExportError> {
        self.0.borrow_mut().push((name.to_owned(), shape.to_vec()));
        Ok(vec![0.0; shape.iter().product()])
    }
}

fn floats(
    constants: &HashMap<&str, &TensorProto>,
    name: &str,
    shape: &[usize],
) -> Result<Vec<f32>, ExportError> {
    let wrong =
        |got: String| ExportError::Tensor { name: name.into(), got, expected: format!("float {shape:?}") };
    let constant = constants.get(name).ok_or_else(|| wrong("nothing".into()))?;
    let same = constant.dims.len() == shape.len()
        && constant.dims.iter().zip(shape).all(|(&d, &s)| usize::try_from(d) == Ok(s))
        && constant.data_type == DataType::Float as i32
        && constant.raw_data.len() == 4 * shape.iter().product::<usize>();
    if !same {
        return Err(wrong(format!("type {} {:?}", constant.data_type, constant.dims)));
    }
    Ok(constant.raw_data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

impl GraphWeights {
    /// Reads the float32 graph of a model with this configuration.
    ///
    /// # Errors
    /// Not a graph, or one of another model.
    pub fn parse(config: &ModelConfig, onnx: &[u8]) -> Result<Self, ExportError> {
        let c = config;
        let (h, f, n) = (c.hidden_size, c.intermediate_size, c.num_hidden_layers);
        let all = |of: fn(&LayerSize) -> usize| {
            c.layer_sizes.iter().try_fold(0usize, |sum, layer| sum.checked_add(of(layer)))
        };
        let fits = |factors: &[usize]| {
            let bytes = factors.iter().try_fold(4usize, |product, &factor| product.checked_mul(factor));
            bytes.is_some_and(|bytes| bytes <= onnx.len())
        };
        let tables =
            [c.vocab_size, c.max_position_embeddings, c.type_vocab_size, c.n_features, c.labels.len()];
        let counted =
            fits(&[c.frames, h]) && fits(&[c.frames, c.counted]) && fits(&[c.vocab_size, c.counted]);
        let wide = c.wide.as_ref().is_none_or(|path| {
            let rows = path.gram_rows().and_then(|rows| rows.last().copied()).unwrap_or(0);
            fits(&[rows, c.labels.len()]) && fits(&[c.type_vocab_size, c.vocab_size])
        });
        let layers = if c.layer_sizes.is_empty() {
            fits(&[n, h, h]) && fits(&[n, f, h])
        } else {
            let width = h.checked_div(c.num_attention_heads).unwrap_or(0);
            c.layer_sizes_fit()
                && all(|l| l.heads).is_some_and(|heads| fits(&[heads, width, h]))
                && all(|l| l.ffn).is_some_and(|ffn| fits(&[ffn, h]))
        };
        if !counted || !wide || !tables.iter().all(|&rows| fits(&[rows, h])) || !layers {
            return Err(ExportError::Config {
                field: "vocab_size, hidden_size, num_hidden_layers, counted, wide, …",
                got: format!("{}, {h}, {n}", c.vocab_size),
                expected: "the sizes of the graph beside it",
            });
        }
        let model = ModelProto::decode(onnx).map_err(|error| ExportError::Tensor {
            name: "fp32.onnx".into(),
            got: error.to_string(),
            expected: "an ONNX model".into(),
        })?;
        let graph = model.graph.unwrap_or_default();
        let constants: HashMap<&str, &TensorProto> =
            graph.initializer.iter().map(|c| (c.name.as_str(), c)).collect();
        let asked = Asked::default();
        let joined = joined(config, &asked)?;
        let mut tensors = BTreeMap::new();
        for linear in joined {
            let (each, input, all) = (linear.each, linear.input, linear.each * linear.names.len());
            let matrix = floats(&constants, &format!("{}.weight", linear.output), &[input, all])?;
            let bias = floats(&constants, &format!("{}.bias", linear.output), &[all])?;
            for (block, name) in linear.names.iter().enumerate() {
                let first = block * each;
                let weight = (first..first + each).flat_map(|o| (0..input).map(move |i| i * all + o));
                let weight = weight.map(|at| matrix[at]).collect();
                tensors.insert(format!("{name}.weight"), (vec![each, input], weight));
                tensors.insert(format!("{name}.bias"), (vec![each], bias[first..first + each].to_vec()));
            }
        }
        for (name, shape) in asked.0.into_inner() {
            if let Entry::Vacant(place) = tensors.entry(name) {
                let values = floats(&constants, place.key(), &shape)?;
                place.insert((shape, values));
            }
        }
        Ok(Self(tensors))
    }

    /// Names, shapes and values in row order.
    pub fn into_tensors(self) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
        self.0
    }
}

impl WeightSource for GraphWeights {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ExportError> {
        match self.0.get(name) {
            Some((stored, values)) if stored == shape => Ok(values.clone()),
            other => Err(ExportError::Tensor {
                name: name.into(),
                got: other.map_or_else(|| "nothing".into(), |(s, _)| format!("{s:?}")),
                expected: format!("{shape:?}"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeadKind, WidePath, build_fp32, to_bytes};

    /// Every number another one.
    struct Unique;

    impl WeightSource for Unique {
        fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ExportError> {
            let seed = name.bytes().fold(7u32, |h, b| h.wrapping_mul(31) ^ u32::from(b));
            let number = |i: u32| (seed ^ i.wrapping_mul(0x9e37_79b9)) as f32 / u32::MAX as f32;
            Ok((0..shape.iter().product::<usize>() as u32).map(number).collect())
        }
    }

    fn config(head: HeadKind) -> ModelConfig {
        ModelConfig { head, ..crate::lower::tests::config("pre") }
    }

    #[test]
    fn the_weights_of_a_graph_make_the_same_graph_again() {
        for head in [HeadKind::Pair, HeadKind::Sequence] {
            let config = config(head);
            let bytes = to_bytes(&build_fp32(&config, &Unique).unwrap());
            let weights = GraphWeights::parse(&config, &bytes).unwrap();
            assert!(to_bytes(&build_fp32(&config, &weights).unwrap()) == bytes, "{head:?}");
            assert!(weights.into_tensors().len() > 20);
        }
    }

    #[test]
    fn a_linear_model_beside_the_head_is_read_back_and_its_tables_are_bounded() {
        let plain = ModelConfig { n_features: 0, ..config(HeadKind::Sequence) };
        let grams = |kinds| Some(WidePath::Grams { n: 3, kinds });
        for wide in [grams(4), Some(WidePath::Substitutions)] {
            let config = ModelConfig { wide, ..plain.clone() };
            let bytes = to_bytes(&build_fp32(&config, &Unique).unwrap());
            let weights = GraphWeights::parse(&config, &bytes).unwrap();
            assert!(to_bytes(&build_fp32(&config, &weights).unwrap()) == bytes, "{config:?}");
            for other in [grams(5), grams(255), grams(256), Some(WidePath::Grams { n: 9, kinds: 1 })] {
                assert!(GraphWeights::parse(&ModelConfig { wide: other, ..config.clone() }, &bytes).is_err());
            }
        }
        let bytes = to_bytes(&build_fp32(&plain, &Unique).unwrap());
        let config = ModelConfig { wide: Some(WidePath::Substitutions), ..plain };
        assert!(GraphWeights::parse(&config, &bytes).is_err());
    }

    #[test]
    fn a_pruned_graph_is_read_back_although_it_is_smaller_than_its_first_sizes() {
        let whole = ModelConfig { intermediate_size: 40_000, ..config(HeadKind::Pair) };
        let pruned = ModelConfig { layer_sizes: vec![LayerSize { heads: 1, ffn: 3 }], ..whole.clone() };
        let bytes = to_bytes(&build_fp32(&pruned, &Unique).unwrap());
        let weights = GraphWeights::parse(&pruned, &bytes).unwrap();
        assert!(to_bytes(&build_fp32(&pruned, &weights).unwrap()) == bytes);
        assert!(GraphWeights::parse(&whole, &bytes).is_err());
    }

    #[test]
    fn a_graph_of_another_model_is_refused() {
        let config = config(HeadKind::Pair);
        let bytes = to_bytes(&build_fp32(&config, &Unique).unwrap());
        let sizes = |heads, ffn| vec![LayerSize { heads, ffn }];
        for other in [
            ModelConfig { layer_sizes: sizes(1, 16), ..config.clone() },
            ModelConfig { layer_sizes: sizes(2, 15), ..config.clone() },
            ModelConfig {
                layer_sizes: sizes(2, usize::MAX),
                intermediate_size: usize::MAX,
                ..config.clone()
            },
            ModelConfig {
                layer_sizes: sizes(usize::MAX, 16),
                num_attention_heads: usize::MAX,
                ..config.clone()
            },
            ModelConfig { layer_sizes: sizes(0, 16), num_attention_heads: 0, ..config.clone() },
            ModelConfig { layer_sizes: [sizes(2, 16), sizes(2, 16)].concat(), ..config.clone() },
            ModelConfig { vocab_size: 70, ..config.clone() },
            ModelConfig { num_hidden_layers: 2, ..config.clone() },
            ModelConfig { hidden_size: 16, ..config.clone() },
            ModelConfig { hidden_size: usize::MAX, ..config.clone() },
            ModelConfig { num_hidden_layers: usize::MAX, ..config.clone() },
        ] {
            assert!(GraphWeights::parse(&other, &bytes).is_err(), "{other:?}");
        }
        assert!(GraphWeights::parse(&config, &bytes[..bytes.len() / 2]).is_err());
    }
}
