//! What is read off the hidden states: a file a head, with the tensors that it needs.

pub(super) mod mlm;
pub(super) mod pair;
pub(super) mod segments;
pub(super) mod sequence;
pub(crate) mod wide;

pub use mlm::MlmHead;
pub use pair::{PairBatch, PairHead};
pub use segments::{ORDERS, SegmentHead, SegmentQuestion};
pub use sequence::SequenceHead;
pub(crate) use sequence::{SCALE, SHIFT, TABLE};
