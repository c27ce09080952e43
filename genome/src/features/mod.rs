//! What the annotation says about a variant, as numbers for the head: consequence, residues and their
//! neighbours, distances, the kind of base change, and what the protein and the transcript are like; where a residue
//! changes, the numbers also as steps. All zero where there is no transcript.

mod residues;
mod stairs;
mod structure;

use alloc::{format, string::String, vec, vec::Vec};

use crate::{
    amino,
    consequence::{self, Bases, Consequence},
    transcript::{ExonPart, Site, Strand, Transcript},
};

use self::{residues::Residues, stairs::Stairs};

pub use self::residues::{COMPOSITION, composition, hydropathy_and_volume};

/// Residues on each side of the changed one.
const NEIGHBOURS: i64 = 8;
const RESIDUES: usize = amino::RESIDUES.len();
/// Distances are capped here, in bases.
const FAR: i64 = 300;
const SCALARS: [&str; 13] = [
    "blosum62",
    "hydropathy_change",
    "volume_change",
    "abs_hydropathy_change",
    "abs_volume_change",
    "intron_from_donor",
    "intron_from_acceptor",
    "exon_from_junction",
    "relative_cds_position",
    "before_last_junction",
    "transition",
    "cpg_lost",
    "codon_known",
];

/// Where each part of a row begins.
const RESIDUES_AT: usize = Consequence::ALL.len();
const SCALARS_AT: usize = RESIDUES_AT + 2 * RESIDUES;
const NEIGHBOURS_AT: usize = SCALARS_AT + SCALARS.len();
const CONTEXT_AT: usize = NEIGHBOURS_AT + 2 * NEIGHBOURS as usize * RESIDUES;
const STRUCTURE_AT: usize = CONTEXT_AT + residues::COUNT;
const STEPS_AT: usize = STRUCTURE_AT + structure::NAMES.len();

/// The features that are also given as steps, by their place in the row.
fn stepped() -> impl Iterator<Item = (usize, Stairs)> {
    let scalars = [
        ("blosum62", Stairs::BLOSUM),
        ("hydropathy_change", Stairs::CHANGE),
        ("volume_change", Stairs::CHANGE),
        ("abs_hydropathy_change", Stairs::CHANGE),
        ("abs_volume_change", Stairs::CHANGE),
        ("relative_cds_position", Stairs::PLACE),
    ];
    let scalar = |(n, stairs)| SCALARS.iter().position(|&s| s == n).map(|i| (SCALARS_AT + i, stairs));
    let structure = (STRUCTURE_AT..STEPS_AT).map(|i| (i, Stairs::PLACE));
    let context = residues::stepped().map(|(i, stairs)| (CONTEXT_AT + i, stairs));
    scalars.into_iter().filter_map(scalar).chain(context).chain(structure)
}

/// Number of features.
pub fn n_features() -> usize {
    STEPS_AT + stepped().map(|(_, stairs)| stairs.len()).sum::<usize>()
}

/// Offsets of the neighbours that are described one by one.
fn neighbours() -> impl Iterator<Item = i64> {
    (-NEIGHBOURS..=NEIGHBOURS).filter(|&o| o != 0)
}

/// Names of the features, in the order of the graph's input.
pub fn feature_names() -> Vec<String> {
    let residues = || {
        amino::RESIDUES.iter().map(|&r| if r == b'*' { "stop".into() } else { String::from(char::from(r)) })
    };
    let mut names: Vec<String> = Consequence::ALL.iter().map(|c| format!("consequence:{c}")).collect();
    for side in ["ref", "alt"] {
        names.extend(residues().map(|r| format!("{side}_residue:{r}")));
    }
    names.extend(SCALARS.iter().map(|&s| String::from(s)));
    for offset in neighbours() {
        names.extend(residues().map(|r| format!("residue{offset:+}:{r}")));
    }
    names.extend(residues::names());
    names.extend(structure::NAMES.iter().map(|&s| String::from(s)));
    let steps: Vec<String> = stepped().flat_map(|(i, stairs)| stairs.names(&names[i])).collect();
    names.extend(steps);
    names
}

/// Distance from 1 base (0.11) to 300 or more (1), rising fastest at the edge.
fn near(distance: i64) -> f32 {
    let d = distance.clamp(1, FAR) as f32;
    // A rational curve, because core has no logarithm.
    d / (d + 8.0) * ((FAR as f32 + 8.0) / FAR as f32)
}

/// The features of a single-base replacement at `position` (`reference`, `alt` on the forward strand).
/// Of the sequence only `bases` is looked at: what it does not know stays zero.
pub fn of_snv(bases: &dyn Bases, transcript: &Transcript, position: i64, reference: u8, alt: u8) -> Vec<f32> {
    let mut features = vec![0.0; n_features()];
    let class = consequence::of_snv(bases, transcript, position, alt);
    if let Some(i) = Consequence::ALL.iter().position(|&c| c == class) {
        features[i] = 1.0;
    }
    let mut scalars = [0.0f32; SCALARS.len()];
    place(transcript, position, &mut scalars);
    let purine = |b| matches!(b, b'A' | b'G');
    scalars[10] = f32::from(u8::from(purine(reference) == purine(alt)));
    let cpg = (reference == b'C' && bases.base(position + 1) == Some(b'G'))
        || (reference == b'G' && bases.base(position - 1) == Some(b'C'));
    scalars[11] = f32::from(u8::from(cpg));

    if let Some(change) = consequence::codon_change(bases, transcript, position, alt)
        && let (Some(r), Some(a)) =
            (amino::residue_index(change.ref_residue), amino::residue_index(change.alt_residue))
    {
        features[RESIDUES_AT + r] = 1.0;
        features[RESIDUES_AT + RESIDUES + a] = 1.0;
        scalars[0] = f32::from(amino::blosum62(r, a)) / 4.0;
        scalars[1] = (amino::hydropathy(a) - amino::hydropathy(r)) / 4.5;
        scalars[2] = (amino::volume(a) - amino::volume(r)) / 100.0;
        scalars[3] = scalars[1].abs();
        scalars[4] = scalars[2].abs();
        scalars[12] = 1.0;
        let around = Residues::around(bases, transcript, change.index);
        for (slot, offset) in neighbours().enumerate() {
            if let Some(i) = around.at(offset) {
                features[NEIGHBOURS_AT + slot * RESIDUES + i] = 1.0;
            }
        }
        around.describe(&mut features[CONTEXT_AT..STRUCTURE_AT]);
    }
    structure::describe(transcript, position, &mut features[STRUCTURE_AT..STEPS_AT]);
    features[SCALARS_AT..NEIGHBOURS_AT].copy_from_slice(&scalars);
    if scalars[12] > 0.0 {
        let (numbers, mut steps) = features.split_at_mut(STEPS_AT);
        for (i, stairs) in stepped() {
            let (own, rest) = steps.split_at_mut(stairs.len());
            stairs.climb(numbers[i], own);
            steps = rest;
        }
    }
    features
}

/// The features of another change, whose first base in sense lies at `position`: what it does, and where. Residues and
/// what is said of one base's replacement stay zero.
pub fn of_edit(transcript: &Transcript, position: i64, class: Consequence) -> Vec<f32> {
    let mut features = vec![0.0; n_features()];
    if let Some(i) = Consequence::ALL.iter().position(|&c| c == class) {
        features[i] = 1.0;
    }
    let mut scalars = [0.0f32; SCALARS.len()];
    place(transcript, position, &mut scalars);
    structure::describe(transcript, position, &mut features[STRUCTURE_AT..STEPS_AT]);
    features[SCALARS_AT..NEIGHBOURS_AT].copy_from_slice(&scalars);
    features
}

/// Where a position lies, among the scalars.
fn place(transcript: &Transcript, position: i64, scalars: &mut [f32; SCALARS.len()]) {
    match transcript.site(position) {
        Site::Intron { from_donor, from_acceptor } => {
            scalars[5] = 1.0 - near(from_donor);
            scalars[6] = 1.0 - near(from_acceptor);
        }
        Site::Exon { from_junction, part } => {
            scalars[7] = from_junction.map_or(0.0, |d| 1.0 - near(d));
            if let ExonPart::Coding { index, .. } = part {
                scalars[8] = index as f32 / transcript.cds_len().max(1) as f32;
                scalars[9] = f32::from(u8::from(index + 50 < last_junction(transcript)));
            }
        }
        Site::Upstream | Site::Downstream => {}
    }
}

/// Coding index of the first base after the last junction within the coding sequence: a stop more than 50 bases
/// before it is expected to trigger nonsense-mediated decay (Nagy & Maquat 1998).
fn last_junction(transcript: &Transcript) -> i64 {
    let cds = transcript.cds();
    let last = match transcript.strand {
        Strand::Forward => cds.last(),
        Strand::Reverse => cds.first(),
    };
    last.map_or(0, |c| transcript.cds_len() - (c.end - c.start + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_one_name() {
        let mut names = feature_names();
        assert_eq!(names.len(), n_features());
        names.sort();
        names.dedup();
        assert_eq!(names.len(), n_features());
    }

    #[test]
    fn distance_is_monotone_and_bounded() {
        assert!(near(1) < near(2) && near(299) < near(300));
        assert!((near(300) - 1.0).abs() < 1e-6 && near(1_000_000) <= 1.0 + 1e-6 && near(1) > 0.0);
    }
}
