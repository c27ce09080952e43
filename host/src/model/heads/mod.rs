//! What is read off the hidden states: a file a head, with the tensors that it needs.

pub(super) mod mlm;
pub(super) mod pair;
pub(super) mod sequence;

pub use mlm::MlmHead;
pub use pair::{PairBatch, PairHead};
pub use sequence::SequenceHead;
