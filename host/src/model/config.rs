//! The configuration that checkpoint, exporter and trainer share.

pub use locus_export::{HeadKind, LayerSize, ModelConfig, WidePath};
