//! Differentiable layers for candle on the CPU, each with its own fused forward and backward pass.
//!
//! candle's own fused layer norm and softmax have no backward, and its composed ones spend most of a
//! training step in temporaries. Every op here reads and writes whole rows once. All tensors are f32
//! and contiguous; every op is deterministic for its seed, whatever the number of threads.

mod activation;
mod attention;
mod embedding;
mod loss;
mod math;
mod norm;
mod product;
mod recorded;
mod residual;
mod slices;

pub use activation::{bias_add, bias_gelu};
pub(crate) use activation::{bias_gelu_gradient, column_sum};
pub(crate) use attention::attention_gradient;
pub use attention::{Attention, attention};
pub use embedding::embed;
pub use loss::{ClassLoss, bce_with_logits, class_loss, cross_entropy, huber};
pub use norm::layer_norm;
pub(crate) use norm::layer_norm_gradient;
pub(crate) use recorded::recorded;
pub use residual::{Dropout, bias_dropout_residual, dropout};
