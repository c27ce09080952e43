//! HGVS nomenclature of small changes: names read, found on a transcript, and given.
//!
//! Changes are described on the genome and moved to its 3' end in the transcript's sense, exons and introns alike
//! (HGVS 3' rule, whose exception at exon junctions this gives by itself). No library fits a box: the crate `hgvs`
//! brings clients of databases.

mod name;
mod parse;
mod place;
mod protein;
mod resolve;
#[cfg(test)]
mod tests;

pub use name::{Names, names};
pub use parse::{Edit, Hgvs, Numbering, is_hgvs};
pub use place::{Datum, Place};
pub use resolve::{Located, on_contig, on_transcript};
