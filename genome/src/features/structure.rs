//! What a transcript's structure says of a coding position: lengths and places, each on a scale from 0 to 1.

use crate::transcript::{ExonPart, Site, Transcript};

/// Names, in order.
pub(super) const NAMES: [&str; 9] = [
    "cds_length_1000",
    "cds_length_3000",
    "from_cds_start",
    "to_cds_end",
    "coding_parts",
    "coding_part_length",
    "from_part_start",
    "to_part_end",
    "transcript_span",
];

/// 0 for nothing, 0.5 for `half`, towards 1 for much more: core has no logarithm.
fn scale(value: i64, half: i64) -> f32 {
    let (value, half) = (value.max(0) as f32, half as f32);
    value / (value + half)
}

/// Writes the numbers of [`NAMES`]; the lengths of the whole also for a position that is not coding.
pub(super) fn describe(transcript: &Transcript, position: i64, row: &mut [f32]) {
    let length = transcript.cds_len();
    let (first, last) = transcript.span();
    row[0] = scale(length, 1_000);
    row[1] = scale(length, 3_000);
    row[4] = scale(transcript.cds().len() as i64, 10);
    row[8] = scale(last - first + 1, 30_000);
    let Site::Exon { part: ExonPart::Coding { index, .. }, .. } = transcript.site(position) else { return };
    let Some(part) = transcript.cds().iter().find(|c| c.start <= position && position <= c.end) else {
        return;
    };
    let (low, high) = (position - part.start, part.end - position);
    let forward = transcript.strand == crate::Strand::Forward;
    row[2] = scale(index, 300);
    row[3] = scale(length - 1 - index, 300);
    row[5] = scale(part.end - part.start + 1, 150);
    row[6] = scale(if forward { low } else { high }, 50);
    row[7] = scale(if forward { high } else { low }, 50);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Strand,
        transcript::{CdsPart, Exon},
    };

    #[test]
    fn a_turned_transcript_has_the_same_numbers() {
        let of = |strand, parts: [(i64, i64); 2], position| {
            let exons = parts.map(|(start, end)| Exon { start, end }).to_vec();
            let cds = parts.map(|(start, end)| CdsPart { start, end, phase: 0 }).to_vec();
            let mut row = [0.0; NAMES.len()];
            describe(&Transcript::new("t", "g", strand, exons, cds).unwrap(), position, &mut row);
            row
        };
        let forward = of(Strand::Forward, [(1, 30), (101, 190)], 110);
        assert_eq!(forward, of(Strand::Reverse, [(1, 90), (161, 190)], 81));
        assert_eq!(forward[2], 39.0 / 339.0);
        assert_eq!((forward[6], forward[7]), (9.0 / 59.0, 80.0 / 130.0));
        let intron = of(Strand::Forward, [(1, 30), (101, 190)], 50);
        assert!(intron[0] > 0.0 && intron[2] == 0.0);
    }
}
