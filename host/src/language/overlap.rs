//! What is trained on must not hold what is held out, on either strand, under whatever name: records of several
//! sources overlap.

use std::collections::HashSet;

use locus_genome::dna;

use super::Stretch;
use crate::{Result, packed::PackedGenome};

/// Bases of a seed: long enough that two repeats of one family seldom share one.
const SEED: usize = 64;
/// Bases that are kept or left out together.
const PIECE: u64 = 1_024;
/// Share of a piece's seeds, one every [`SEED`] bases of what it overlaps, that marks it as the same sequence.
const SHARE: f64 = 0.3;

/// The stretches of `train` without the pieces of which the same sequence is in `unseen`.
pub(super) fn without(genome: &PackedGenome, train: &[Stretch], unseen: &[Stretch]) -> Result<Vec<Stretch>> {
    let mut seeds = HashSet::new();
    for stretch in unseen {
        for start in (stretch.start..stretch.end).step_by(SEED) {
            let bases = genome.bases(stretch.record, start, (start + SEED as u64).min(stretch.end))?;
            seeds.extend(Hashes::of(&bases).map(|(_, hash)| hash));
        }
    }
    let mut kept: Vec<Stretch> = Vec::new();
    for stretch in train {
        let mut start = stretch.start;
        while start < stretch.end {
            // A last piece that is short goes with the one before it.
            let end = if stretch.end - start < 2 * PIECE { stretch.end } else { start + PIECE };
            let bases = genome.bases(stretch.record, start, end)?;
            let found: HashSet<u64> =
                Hashes::of(&bases).map(|(_, hash)| hash).filter(|hash| seeds.contains(hash)).collect();
            let expected = (bases.len() / SEED).max(1) as f64;
            if (found.len() as f64) < SHARE * expected || found.is_empty() {
                match kept.last_mut() {
                    Some(last) if last.record == stretch.record && last.end == start => last.end = end,
                    _ => kept.push(Stretch { record: stretch.record, start, end }),
                }
            }
            start = end;
        }
    }
    Ok(kept)
}

/// How many of the stretches `of` have [`SHARE`] or more of their seeds in those of `within`, on either strand.
pub(super) fn shared(genome: &PackedGenome, of: &[Stretch], within: &[Stretch]) -> Result<u64> {
    let seeds = |stretch: &Stretch| -> Result<Vec<u64>> {
        let mut all = Vec::new();
        for start in (stretch.start..stretch.end).step_by(SEED) {
            let bases = genome.bases(stretch.record, start, (start + SEED as u64).min(stretch.end))?;
            all.extend(Hashes::of(&bases).map(|(_, hash)| hash));
        }
        Ok(all)
    };
    let mut wanted = HashSet::new();
    for stretch in of {
        wanted.extend(seeds(stretch)?);
    }
    let mut found = HashSet::new();
    for stretch in within {
        for start in (stretch.start..stretch.end).step_by(PIECE as usize) {
            // A seed that begins in this piece may end in the next.
            let end = (start + PIECE + SEED as u64 - 1).min(stretch.end);
            let bases = genome.bases(stretch.record, start, end)?;
            found.extend(Hashes::of(&bases).map(|(_, hash)| hash).filter(|hash| wanted.contains(hash)));
        }
    }
    let mut near = 0;
    for stretch in of {
        let own = seeds(stretch)?;
        let hits = own.iter().filter(|hash| found.contains(*hash)).count();
        near += u64::from(hits > 0 && hits as f64 >= SHARE * own.len() as f64);
    }
    Ok(near)
}

/// Hash of every stretch of [`SEED`] known bases, the same on both strands (Karp & Rabin 1987), with its offset.
struct Hashes<'a> {
    bases: &'a [u8],
    at: usize,
    known: usize,
    forward: u64,
    reverse: u64,
}

/// Odd, so that it has an inverse modulo 2^64.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const INVERSE: u64 = inverse(FACTOR);
const TOP: u64 = power(FACTOR, SEED as u32 - 1);

const fn power(base: u64, exponent: u32) -> u64 {
    base.wrapping_pow(exponent)
}

/// Newton's iteration modulo 2^64.
const fn inverse(x: u64) -> u64 {
    let mut y = x;
    let mut n = 0;
    while n < 6 {
        y = y.wrapping_mul(2u64.wrapping_sub(x.wrapping_mul(y)));
        n += 1;
    }
    y
}

/// Numbers without a pattern that a factor could hide.
const fn value(base: u8) -> u64 {
    match base {
        b'A' => 0x2545_f491_4f6c_dd1d,
        b'C' => 0xd6e8_feb8_6659_fd93,
        b'G' => 0xa5a5_1c9e_0b3f_7e21,
        _ => 0x5851_f42d_4c95_7f2d,
    }
}

impl<'a> Hashes<'a> {
    const fn of(bases: &'a [u8]) -> Self {
        Self { bases, at: 0, known: 0, forward: 0, reverse: 0 }
    }
}

impl Iterator for Hashes<'_> {
    type Item = (usize, u64);

    fn next(&mut self) -> Option<(usize, u64)> {
        loop {
            let &base = self.bases.get(self.at)?;
            self.at += 1;
            if !dna::is_base(base) {
                (self.known, self.forward, self.reverse) = (0, 0, 0);
                continue;
            }
            if self.known == SEED {
                let gone = self.bases[self.at - 1 - SEED];
                self.forward = self.forward.wrapping_sub(value(gone).wrapping_mul(TOP));
                self.reverse = self.reverse.wrapping_sub(value(dna::complement(gone))).wrapping_mul(INVERSE);
                self.known -= 1;
            }
            let top = power(FACTOR, self.known as u32);
            self.forward = self.forward.wrapping_mul(FACTOR).wrapping_add(value(base));
            self.reverse = self.reverse.wrapping_add(value(dna::complement(base)).wrapping_mul(top));
            self.known += 1;
            if self.known == SEED {
                return Some((self.at - SEED, self.forward.min(self.reverse)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::regions::tests::{packed, random};

    #[test]
    fn a_seed_hashes_alike_wherever_it_stands_and_on_both_strands() {
        let bases = random(500, 1);
        let turned = dna::reverse_complement(&bases);
        let all: Vec<(usize, u64)> = Hashes::of(&bases).collect();
        assert_eq!(all.len(), 500 - SEED + 1);
        let other: Vec<(usize, u64)> = Hashes::of(&turned).collect();
        for &(at, hash) in &all {
            assert_eq!(other[500 - SEED - at].1, hash);
            assert_eq!(Hashes::of(&bases[at..at + SEED]).next(), Some((0, hash)));
        }
        let distinct: HashSet<u64> = all.iter().map(|h| h.1).collect();
        assert_eq!(distinct.len(), all.len());
        let broken = [&bases[..100], b"N", &bases[100..200]].concat();
        assert_eq!(Hashes::of(&broken).count(), 2 * (100 - SEED + 1));
    }

    #[test]
    fn what_is_held_out_is_cut_out_of_what_is_trained_on() {
        let folder = tempfile::tempdir().unwrap();
        let held = random(20_000, 2);
        // Another source: on the other strand, with a different base every 150.
        let mut copy = dna::reverse_complement(&held[5_000..15_000]);
        for i in (0..copy.len()).step_by(150) {
            copy[i] = if copy[i] == b'A' { b'C' } else { b'A' };
        }
        let train = [random(30_000, 3), copy, random(30_000, 4)].concat();
        let genome = packed(folder.path(), &[("train", "", train), ("held", "", held)]);
        let whole = Stretch { record: 0, start: 0, end: 70_000 };
        let kept = without(&genome, &[whole], &[Stretch { record: 1, start: 0, end: 20_000 }]).unwrap();
        let left: u64 = kept.iter().map(Stretch::len).sum();
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(kept[0].end.abs_diff(30_000) <= PIECE && kept[1].start.abs_diff(40_000) <= PIECE, "{kept:?}");
        assert!(left <= 60_000 + 2 * PIECE, "{left}");
        assert_eq!(without(&genome, &[whole], &[]).unwrap(), [whole]);
    }
}
