//! Differentiable layers for candle, each with its own fused forward and backward pass on the CPU.
//!
//! candle's own fused layer norm and softmax have no backward, and its composed ones spend most of a
//! training step in temporaries. Every fused op here reads and writes whole rows once. Its tensors are f32
//! and contiguous; it is deterministic for its seed, whatever the number of threads. Elsewhere, on a GPU or in half
//! precision, every op is composed of candle's own ones (`composed`), with the same values and gradients.

mod activation;
mod attention;
mod composed;
mod embedding;
mod loss;
mod math;
mod norm;
mod product;
mod recorded;
mod residual;
mod slices;
#[cfg(test)]
mod tests;

pub use activation::{bias_add, bias_gelu};
pub(crate) use activation::{bias_gelu_gradient, column_sum};
pub(crate) use attention::attention_gradient;
pub use attention::{Attention, attention};
pub use composed::without_fused;
pub(crate) use composed::{matmul, refused};
pub use embedding::{embed, select_rows};
pub use loss::{ClassLoss, bce_with_logits, class_loss, cross_entropy, huber};
pub use norm::layer_norm;
pub(crate) use norm::layer_norm_gradient;
pub(crate) use recorded::recorded;
pub use residual::{Dropout, bias_dropout_residual, dropout};
