//! The encoder and its heads, on candle.
//!
//! [`Params`] holds every trainable tensor under its Hugging Face BERT name; [`Encoder`] turns a
//! [`Rows`] batch into hidden states; [`PairHead`], [`SequenceHead`] and [`MlmHead`] read them. A [`Context`] says whether
//! dropout drops, and lets an [`Observer`] see what enters each matrix product.

mod config;
mod encoder;
mod heads;
mod layer;
mod params;

pub use config::{HeadKind, LayerSize, ModelConfig, WidePath};
pub use encoder::{Context, Encoder, Observer, Rows};
pub use heads::{MlmHead, ORDERS, PairBatch, PairHead, SegmentHead, SegmentQuestion, SequenceHead};
pub(crate) use heads::{SCALE, SHIFT, TABLE, wide};
pub use params::Params;
pub(crate) use params::{load_tensors, save_tensors};
