//! The protein around a changed residue, as far as its bases are known: what stands at each neighbouring place, and
//! what stretches of it are made of.

use alloc::{format, string::String, vec::Vec};

use super::{neighbours, stairs::Stairs};
use crate::{
    amino, codon,
    consequence::{self, Bases},
    transcript::Transcript,
};

/// Residues on each side that are looked at: as far as 300 bases reach.
const REACH: i64 = 100;
/// Residues on each side of the stretches that are described as a whole.
const STRETCHES: [i64; 3] = [8, 30, REACH];
/// Hydropathy and volume of a neighbour.
const PER_NEIGHBOUR: usize = 2;
/// Kinds of residue whose share is given: acidic, basic, glycine, proline, cysteine, aromatic, small polar, amide.
const GROUPS: [(&str, &[u8]); 8] = [
    ("acidic", b"DE"),
    ("basic", b"KR"),
    ("glycine", b"G"),
    ("proline", b"P"),
    ("cysteine", b"C"),
    ("aromatic", b"FWY"),
    ("hydroxyl", b"ST"),
    ("amide", b"NQ"),
];
/// Share of known residues, mean hydropathy, mean volume, and the groups' shares.
const PER_STRETCH: usize = 3 + GROUPS.len();
/// Volume of a middling residue, and a typical distance from it, in cubic ångström.
const VOLUME: (f32, f32) = (140.0, 60.0);

/// Numbers of [`composition`]: mean hydropathy, mean volume, and the shares of eight groups of residues.
pub const COMPOSITION: usize = PER_STRETCH - 1;

/// Hydropathy and volume of a residue by its index in [`amino::RESIDUES`], to the scale of the features.
pub fn hydropathy_and_volume(residue: usize) -> [f32; 2] {
    [amino::hydropathy(residue) / 4.5, (amino::volume(residue) - VOLUME.0) / VOLUME.1]
}

/// What a stretch of residues, by index, is made of; zeros of none.
pub fn composition(residues: &[usize]) -> [f32; COMPOSITION] {
    let mut out = [0.0; COMPOSITION];
    let n = residues.len().max(1) as f32;
    for &i in residues {
        let [hydropathy, volume] = hydropathy_and_volume(i);
        out[0] += hydropathy / n;
        out[1] += volume / n;
        for (share, (_, group)) in out[2..].iter_mut().zip(GROUPS) {
            *share += f32::from(u8::from(group.contains(&amino::RESIDUES[i]))) / n;
        }
    }
    out
}

/// Numbers that [`Residues::describe`] writes.
pub(super) const COUNT: usize = 16 * PER_NEIGHBOUR + STRETCHES.len() * PER_STRETCH;

/// The numbers that are also given as steps, by their place among the [`COUNT`].
pub(super) fn stepped() -> impl Iterator<Item = (usize, Stairs)> {
    (0..STRETCHES.len()).flat_map(|stretch| {
        let at = 16 * PER_NEIGHBOUR + stretch * PER_STRETCH;
        let shares = (3..PER_STRETCH).map(move |i| (at + i, Stairs::SHARE));
        [(at + 1, Stairs::HYDROPATHY), (at + 2, Stairs::VOLUME)].into_iter().chain(shares)
    })
}

/// Their names.
pub(super) fn names() -> Vec<String> {
    let numbers = |o: i64| [format!("hydropathy{o:+}"), format!("volume{o:+}")];
    let mut names: Vec<String> = neighbours().flat_map(numbers).collect();
    for reach in STRETCHES {
        names.extend(["known", "hydropathy", "volume"].map(|n| format!("within{reach}:{n}")));
        names.extend(GROUPS.iter().map(|(n, _)| format!("within{reach}:{n}")));
    }
    names
}

/// Residues by their distance from the changed one, which is left out; `None` where they are not known.
pub(super) struct Residues(Vec<Option<usize>>);

impl Residues {
    /// `index`: first base of the changed residue's codon in the coding sequence.
    pub(super) fn around(bases: &dyn Bases, transcript: &Transcript, index: i64) -> Self {
        let residue = |offset: i64| {
            consequence::codon_at(bases, transcript, index + 3 * offset)
                .and_then(codon::translate)
                .and_then(amino::residue_index)
        };
        Self((-REACH..=REACH).map(|o| if o == 0 { None } else { residue(o) }).collect())
    }

    /// The residue at an offset.
    pub(super) fn at(&self, offset: i64) -> Option<usize> {
        *self.0.get(usize::try_from(offset + REACH).ok()?)?
    }

    /// Writes the [`COUNT`] numbers into a row of zeros.
    pub(super) fn describe(&self, row: &mut [f32]) {
        let (each, stretches) = row.split_at_mut(16 * PER_NEIGHBOUR);
        for (pair, offset) in each.chunks_exact_mut(PER_NEIGHBOUR).zip(neighbours()) {
            if let Some(i) = self.at(offset) {
                pair.copy_from_slice(&hydropathy_and_volume(i));
            }
        }
        for (out, reach) in stretches.chunks_exact_mut(PER_STRETCH).zip(STRETCHES) {
            let known: Vec<usize> = (-reach..=reach).filter_map(|o| self.at(o)).collect();
            out[0] = known.len() as f32 / (2 * reach) as f32;
            out[1..].copy_from_slice(&composition(&known));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_is_known() {
        let mut all = Residues(alloc::vec![None; 2 * REACH as usize + 1]);
        let of = |r: u8| amino::residue_index(r);
        all.0[REACH as usize - 1] = of(b'D');
        all.0[REACH as usize + 1] = of(b'W');
        all.0[REACH as usize + 20] = of(b'G');
        let mut row = [0.0; COUNT];
        all.describe(&mut row);
        let named = |name: &str| row[names().iter().position(|n| n == name).unwrap()];
        assert_eq!((named("hydropathy-1"), named("hydropathy+2")), (-3.5 / 4.5, 0.0));
        assert_eq!((named("within8:known"), named("within30:known")), (2.0 / 16.0, 3.0 / 60.0));
        assert_eq!((named("within8:acidic"), named("within8:glycine")), (0.5, 0.0));
        assert!((named("within30:glycine") - 1.0 / 3.0).abs() < 1e-6);
        assert!((named("within8:hydropathy") - (-3.5 - 0.9) / 9.0).abs() < 1e-6);
    }
}
