//! The drawn test variants, quoted as facts.

use locus_firmware_config::message::{Request, TranscriptSpec};
use serde::Deserialize;

/// The drawn variants.
#[derive(Debug, Deserialize)]
pub struct Facts {
    /// Seed of the draw.
    pub seed: u64,
    /// Assembly of the coordinates.
    pub assembly: String,
    /// The variants.
    pub variants: Vec<Fact>,
}

/// One real variant with its surroundings.
#[derive(Clone, Debug, Deserialize)]
pub struct Fact {
    /// `chr-position-ref-alt`.
    pub variant: String,
    /// Gene.
    pub gene: String,
    /// True = pathogenic or likely pathogenic.
    pub label: bool,
    /// Bases around it, read on the forward strand.
    pub sequence: String,
    /// The variant in the sequence.
    pub mutation: String,
    /// Transcript.
    pub transcript_id: String,
    /// Transcript in the coordinates of the sequence.
    pub transcript: TranscriptSpec,
}

impl Fact {
    /// Asks about it by sequence and transcript.
    pub fn request(&self, id: &str) -> Request {
        Request {
            id: Some(id.to_owned()),
            sequence: Some(self.sequence.clone()),
            mutation: Some(self.mutation.clone()),
            gene: Some(self.gene.clone()),
            transcript_id: Some(self.transcript_id.clone()),
            transcript: Some(self.transcript.clone()),
            ..Request::default()
        }
    }
}

/// The committed draw.
pub fn facts() -> Facts {
    serde_json::from_str(include_str!("../fixtures/demo.json")).expect("the committed draw parses")
}
