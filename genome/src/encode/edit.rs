//! A change of other than one base by one, as the model reads it.

use super::{EncodedVariant, Kind, MAX_CHANGED_BASES, ScopeReason, Stretch, VariantEncoder, described};
use crate::{Strand, Transcript, changed::Edit, consequence::Bases, features, indel, window::Window};

impl VariantEncoder {
    /// A change of other than one base by one: both windows where the model reads such, else what the annotation says.
    pub(super) fn encode_edit(
        &self,
        (stretch, near): (&Stretch<'_>, &Stretch<'_>),
        edit: &Edit<'_>,
        transcript: Option<&Transcript>,
        strand: Strand,
    ) -> EncodedVariant {
        let term = |bases: &dyn Bases, edit: &Edit<'_>, t: &Transcript| {
            indel::of_indel(bases, t, edit.first, edit.removed, edit.added)
        };
        let described = EncodedVariant {
            consequence: transcript.map(|t| term(stretch, edit, t)),
            ..described(Kind::Indel, transcript)
        };
        if !self.indels {
            return described;
        }
        if transcript.is_some_and(|t| !t.standard_code()) {
            return EncodedVariant { in_scope: Err(ScopeReason::Mitochondrial), ..described };
        }
        let width = self.tokenizer.bases(self.window_kmers);
        let longest = edit.removed.len().max(edit.added.len());
        // Whatever is changed, at least one k-mer after it is shown.
        let shown = longest + self.tokenizer.k();
        if longest > MAX_CHANGED_BASES || shown > width - width.saturating_sub(1) / 2 {
            return EncodedVariant { in_scope: Err(ScopeReason::TooLong), ..described };
        }
        // Whichever unit of a repeat the asker names, the model reads the same.
        let settled = edit.settled(near, strand);
        let edit = &settled.edit();
        let windows = Window::of_edit(near, edit, width, strand, transcript);
        let (reference, alternate) = (windows.reference, windows.alternate);
        let in_scope = match reference.bases.len() {
            bases if bases > 0 && bases - reference.centre >= shown => Ok(()),
            _ if windows.ambiguous => Err(ScopeReason::AmbiguousBases),
            _ => Err(ScopeReason::TooShort),
        };
        if in_scope.is_err() {
            return EncodedVariant { in_scope, ..described };
        }
        let features = |t: &Transcript| features::of_edit(t, edit.begins(t.strand).0, term(near, edit, t));
        EncodedVariant {
            ref_ids: reference.ids(&self.tokenizer),
            alt_ids: alternate.ids(&self.tokenizer),
            track: reference.token_track(&self.tokenizer),
            alt_track: alternate.token_track(&self.tokenizer),
            features: transcript.map_or_else(|| described.features.clone(), features),
            window_bases: reference.bases.len(),
            in_scope,
            ..described
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{CONTEXT_BASES, CdsPart, Exon, KmerTokenizer, dna, encode::Allele, window::track_code};

    const LENGTH: i64 = 400;

    fn encoder() -> VariantEncoder {
        VariantEncoder::new(KmerTokenizer::new(3, 1).unwrap(), 61).with_indels()
    }

    fn drawn(rng: &mut ChaCha8Rng, n: usize) -> Vec<u8> {
        (0..n).map(|_| b"ACGT"[rng.random_range(0..4)]).collect()
    }

    /// Two exons and an intron; the coding sequence begins and ends inside them.
    fn gene(strand: Strand) -> Transcript {
        let turned = |start, end| match strand {
            Strand::Forward => (start, end),
            Strand::Reverse => (LENGTH + 1 - end, LENGTH + 1 - start),
        };
        let part = |start, end, phase| {
            let (start, end) = turned(start, end);
            CdsPart { start, end, phase }
        };
        let exon = |start, end| {
            let (start, end) = turned(start, end);
            Exon { start, end }
        };
        let exons = vec![exon(101, 160), exon(201, 300)];
        Transcript::new("t", "g", strand, exons, vec![part(121, 160, 0), part(201, 270, 2)]).unwrap()
    }

    fn encode(bases: &[u8], at: (i64, &[u8], &[u8]), transcript: Option<&Transcript>) -> EncodedVariant {
        let allele = Allele { position: at.0, ref_allele: at.1, alt_allele: at.2 };
        let stretch = Stretch { bases, first: 1 };
        encoder().encode(stretch, &allele, transcript, CONTEXT_BASES, Strand::Forward).unwrap()
    }

    /// The bases and codes that ids and track stand for, read the plain way: the text is changed, then cut out.
    fn expected(text: &[u8], transcript: &Transcript, centre: i64, sense: Strand) -> (Vec<i64>, Vec<i64>) {
        let step = if sense == Strand::Forward { 1 } else { -1 };
        let at = |d: i64| centre + d * step;
        let base = |p: i64| {
            let b = text[(p - 1) as usize];
            if sense == Strand::Forward { b } else { dna::complement(b) }
        };
        let window: Vec<u8> = (-31..=31).map(|d| base(at(d))).collect();
        let mut ids = vec![2];
        ids.extend(KmerTokenizer::new(3, 1).unwrap().encode(&window).into_iter().map(i64::from));
        ids.push(3);
        let mut track = vec![0];
        track.extend((-30..=30).map(|d| i64::from(track_code(transcript, at(d)))));
        track.push(0);
        (ids, track)
    }

    #[test]
    fn windows_are_those_of_the_text_before_and_after_the_change_on_both_strands() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for n in 0..2_000 {
            let text = drawn(&mut rng, LENGTH as usize);
            let (removed, added) = (rng.random_range(0..=29), rng.random_range(0..=29));
            let first = rng.random_range(80..300_i64);
            let at = |p: i64| (p - 1) as usize;
            // With VCF's anchor before it.
            let ref_allele = &text[at(first - 1)..at(first) + removed];
            let mut alt_allele = vec![text[at(first - 1)]];
            alt_allele.extend(drawn(&mut rng, added));
            if ref_allele == alt_allele {
                continue;
            }
            let edit = Edit::of(first - 1, ref_allele, &alt_allele);
            let mut changed = text[..at(edit.first)].to_vec();
            changed.extend(edit.added);
            changed.extend(&text[at(edit.first) + edit.removed.len()..]);
            for strand in [Strand::Forward, Strand::Reverse] {
                let transcript = gene(strand);
                let e = encode(&text, (first - 1, ref_allele, &alt_allele), Some(&transcript));
                assert_eq!((e.in_scope, e.window_bases), (Ok(()), 63), "{n}");
                let settled = edit.settled(&Stretch { bases: &text, first: 1 }, strand);
                let Some(now) = settled.edit().transcript(&transcript) else { continue };
                let (was_at, is_at) = settled.edit().begins(strand);
                assert_eq!((e.ref_ids, e.track), expected(&text, &transcript, was_at, strand), "{n}");
                assert_eq!((e.alt_ids, e.alt_track), expected(&changed, &now, is_at, strand), "{n}");
                assert!(e.features.iter().all(|f| f.is_finite()) && e.features.iter().any(|f| *f > 0.0));
            }
        }
    }

    #[test]
    fn every_unit_of_a_repeat_gives_the_same_input() {
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        for unit in [&b"T"[..], b"CA", b"GAT"] {
            for strand in [Strand::Forward, Strand::Reverse] {
                for place in [90, 130, 155, 180, 195, 240, 290_usize] {
                    let mut text = drawn(&mut rng, LENGTH as usize);
                    let repeat = unit.repeat(6);
                    text[place..place + repeat.len()].copy_from_slice(&repeat);
                    let transcript = gene(strand);
                    let read = |at: usize, r: &[u8], a: &[u8]| {
                        let e = encode(&text, (at as i64 + 1, r, a), Some(&transcript));
                        assert_eq!(e.in_scope, Ok(()));
                        (e.ref_ids, e.alt_ids, e.track, e.alt_track, e.features)
                    };
                    let (deleted, added) = (read(place, unit, b""), read(place, b"", unit));
                    for n in 1..6 {
                        let at = place + n * unit.len();
                        assert_eq!(read(at, unit, b""), deleted, "{strand:?} {place} {n}");
                        assert_eq!(read(at, b"", unit), added, "{strand:?} {place} {n}");
                    }
                }
            }
        }
    }

    #[test]
    fn both_strands_of_one_gene_give_the_same_input() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let mut compared = 0;
        for n in 0..2_000 {
            let text = drawn(&mut rng, LENGTH as usize);
            let turned = dna::reverse_complement(&text);
            let first = rng.random_range(60..320_i64);
            let (removed, added) = (rng.random_range(0..=12), rng.random_range(0..=12));
            let ref_allele = text[(first - 1) as usize..][..removed].to_vec();
            let alt_allele = drawn(&mut rng, added);
            if ref_allele == alt_allele {
                continue;
            }
            let edit = Edit::of(first, &ref_allele, &alt_allele);
            let (other_ref, other_alt) =
                (dna::reverse_complement(&ref_allele), dna::reverse_complement(&alt_allele));
            let other_first = LENGTH + 1 - (first + removed as i64 - 1);
            let other = Edit::of(other_first, &other_ref, &other_alt);
            let mut a = encode(&text, (first, &ref_allele, &alt_allele), Some(&gene(Strand::Forward)));
            let b = encode(&turned, (other_first, &other_ref, &other_alt), Some(&gene(Strand::Reverse)));
            // What is reported is read where it is given, and trimming gives another unit of a repeat there.
            if other.first == LENGTH + 1 - edit.last() {
                compared += 1;
            } else {
                a.consequence = b.consequence;
            }
            assert_eq!(a, b, "{n}");
        }
        assert!(compared > 1_000, "{compared}");
    }

    #[test]
    fn what_alleles_share_changes_nothing_and_a_padded_single_base_is_one() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let text = drawn(&mut rng, LENGTH as usize);
        let bases = |from: i64, n: usize| &text[(from - 1) as usize..][..n];
        let transcript = gene(Strand::Forward);
        for first in 90..310_i64 {
            let other = if bases(first, 1) == b"A" { b"C" } else { b"A" };
            let (before, after) = (bases(first - 3, 3), bases(first + 1, 2));
            let padded_ref = [before, bases(first, 1), after].concat();
            let padded_alt = [before, other, after].concat();
            let snv = encode(&text, (first, bases(first, 1), other), Some(&transcript));
            assert_eq!(snv.kind, Kind::Snv);
            assert_eq!(encode(&text, (first - 3, &padded_ref, &padded_alt), Some(&transcript)), snv);
            // A deletion of two bases, with what stands around it.
            let whole = [before, bases(first, 4)].concat();
            let left = [before, bases(first + 2, 2)].concat();
            let edit = Edit::of(first - 3, &whole, &left);
            let padded = encode(&text, (first - 3, &whole, &left), Some(&transcript));
            let trimmed = encode(&text, (edit.first, edit.removed, edit.added), Some(&transcript));
            assert_eq!((padded.kind, &padded), (Kind::Indel, &trimmed));
        }
    }

    #[test]
    fn an_snv_is_the_shortest_edit() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let text = drawn(&mut rng, LENGTH as usize);
        let (stretch, transcript) = (Stretch { bases: &text, first: 1 }, gene(Strand::Reverse));
        for first in [1, 2, 20, 150, 250, 399, 400] {
            let removed = &text[(first - 1) as usize..][..1];
            let added: &[u8] = if removed == b"A" { b"C" } else { b"A" };
            let snv = encode(&text, (first, removed, added), Some(&transcript));
            let edit = Edit { first, removed, added };
            let windows = Window::of_edit(&stretch, &edit, 63, Strand::Reverse, Some(&transcript));
            let t = KmerTokenizer::new(3, 1).unwrap();
            assert_eq!((windows.reference.ids(&t), windows.alternate.ids(&t)), (snv.ref_ids, snv.alt_ids));
            assert_eq!(
                (windows.reference.token_track(&t), windows.alternate.token_track(&t)),
                (snv.track, snv.alt_track)
            );
        }
    }

    #[test]
    fn near_an_end_windows_are_cut_alike_until_the_change_no_longer_fits() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let text = drawn(&mut rng, 100);
        for strand in [Strand::Forward, Strand::Reverse] {
            let transcript = gene(strand);
            let n = 5;
            for first in 1..=96_i64 {
                let removed = &text[(first - 1) as usize..][..n];
                // Neither end is shared, so that nothing is trimmed or moved.
                let ends = [removed[0], removed[n - 1]];
                let added = *b"ACGT".iter().find(|b| !ends.contains(b)).unwrap();
                let e = encode(&text, (first, removed, &[added]), Some(&transcript));
                assert_eq!(e.ref_ids.len(), e.alt_ids.len());
                assert_eq!(e.track.len(), e.ref_ids.len());
                assert_eq!(e.alt_track.len(), e.ref_ids.len());
                let (before, after) = match strand {
                    Strand::Forward => (first - 1, 100 - first + 1),
                    Strand::Reverse => (100 - (first + n as i64 - 1), first + n as i64 - 1),
                };
                // What follows moves up in the alternate window, so it ends first.
                let side = before.min(31).min(after - n as i64);
                let whole = side + 1 >= n as i64 + 3;
                assert_eq!(e.in_scope.is_ok(), whole, "{strand:?} {first}");
                match e.in_scope {
                    Ok(()) => assert_eq!(e.window_bases as i64, 2 * side + 1, "{strand:?} {first}"),
                    Err(reason) => {
                        assert_eq!((reason, e.ref_ids.len()), (ScopeReason::TooShort, 0), "{first}");
                    }
                }
            }
        }
    }

    #[test]
    fn whatever_is_asked_both_rows_are_of_one_length_and_within_the_window() {
        let mut rng = ChaCha8Rng::seed_from_u64(13);
        let (mut read, mut refused) = (0, 0);
        for n in 0..20_000 {
            let length = rng.random_range(1..160);
            let mut text = drawn(&mut rng, length);
            if n % 3 == 0 {
                text.iter_mut().for_each(|b| *b = if rng.random_bool(0.02) { b'N' } else { *b });
            }
            let at = rng.random_range(0..length);
            let removed = rng.random_range(0..=(length - at).min(60));
            let added = rng.random_range(0..60);
            let alt_allele = drawn(&mut rng, added);
            let ref_allele = &text[at..at + removed];
            if ref_allele == alt_allele {
                continue;
            }
            let (start, len, strand) =
                (rng.random_range(-50..200), rng.random_range(1..120), rng.random_bool(0.5));
            let exons =
                vec![Exon { start, end: start + len }, Exon { start: start + len + 2, end: start + len + 9 }];
            let cds = vec![CdsPart { start, end: start + len, phase: rng.random_range(0..3) }];
            let strand = if strand { Strand::Forward } else { Strand::Reverse };
            let transcript = Transcript::new("t", "g", strand, exons, cds).unwrap();
            let e = encode(&text, (at as i64 + 1, ref_allele, &alt_allele), Some(&transcript));
            let rows = [&e.ref_ids, &e.alt_ids, &e.track, &e.alt_track].map(Vec::len);
            assert!(rows.iter().all(|&l| l == rows[0] && l <= 63), "{n} {rows:?}");
            match (e.kind, e.in_scope) {
                (Kind::Indel, Ok(())) => {
                    assert!(rows[0] == e.window_bases && e.ref_ids != e.alt_ids, "{n}");
                    read += 1;
                }
                (Kind::Indel, Err(_)) => {
                    assert_eq!(rows[0], 0, "{n}");
                    refused += 1;
                }
                _ => {}
            }
        }
        assert!(read > 2_000 && refused > 2_000, "{read} {refused}");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let mut rng = ChaCha8Rng::seed_from_u64(10);
        let mut text = drawn(&mut rng, LENGTH as usize);
        let read = |text: &[u8], removed: usize, added: &[u8]| {
            let removed = &text[199..199 + removed];
            encode(text, (200, removed, added), None).in_scope
        };
        let long = "C".repeat(30);
        let tail = |text: &[u8]| if text[199] == b'G' { b'T' } else { b'G' };
        assert_eq!(read(&text, 30, &[tail(&text)]), Err(ScopeReason::TooLong));
        assert_eq!(read(&text, 0, long.as_bytes()), Err(ScopeReason::TooLong));
        assert_eq!(read(&text, 0, &[b'C'; 29]), Ok(()));
        assert_eq!(read(&text, 0, b"CNC"), Err(ScopeReason::AmbiguousBases));
        text[201] = b'N';
        assert_eq!(read(&text, 1, b"CCTT"), Err(ScopeReason::AmbiguousBases));
        let mitochondrial = gene(Strand::Forward).on_contig("chrM");
        let e = encode(&text, (150, &text[149..151], &[]), Some(&mitochondrial));
        assert_eq!(e.in_scope, Err(ScopeReason::Mitochondrial));
    }

    #[test]
    fn an_encoder_of_single_bases_says_what_the_annotation_says_and_makes_no_window() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let text = drawn(&mut rng, LENGTH as usize);
        let transcript = gene(Strand::Forward);
        let allele = Allele { position: 220, ref_allele: &text[219..221], alt_allele: &text[219..220] };
        let of = |encoder: VariantEncoder| {
            let stretch = Stretch { bases: &text, first: 1 };
            encoder.encode(stretch, &allele, Some(&transcript), CONTEXT_BASES, Strand::Forward).unwrap()
        };
        let (one, all) = (of(VariantEncoder::new(*encoder().tokenizer(), 61)), of(encoder()));
        assert_eq!((one.in_scope, one.ref_ids.len()), (Err(ScopeReason::NotSnv), 0));
        assert_eq!((all.in_scope, all.ref_ids.len()), (Ok(()), 63));
        assert_eq!((one.consequence, one.kind), (all.consequence, Kind::Indel));
    }
}
