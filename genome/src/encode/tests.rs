//! Single-base changes and stretches.

use super::*;
use crate::transcript::{CdsPart, Exon};

fn encoder() -> VariantEncoder {
    VariantEncoder::new(KmerTokenizer::new(3, 1).unwrap(), 61)
}

fn sequence() -> String {
    (0..201).map(|i| char::from(b"ACGGTCATTGCA"[(i * i + i / 3) % 12])).collect()
}

fn mutation_at(sequence: &str, position: usize) -> Mutation {
    let reference = sequence.as_bytes()[position - 1];
    let alt_allele = if reference == b'A' { b'C' } else { b'A' };
    Mutation { ref_allele: reference, position: position as u64, alt_allele }
}

#[test]
fn only_the_k_tokens_over_the_variant_differ() {
    let s = sequence();
    let e = encoder().encode_sequence(&s, &mutation_at(&s, 101), None).unwrap();
    let differ: Vec<usize> = (0..e.ref_ids.len()).filter(|&i| e.ref_ids[i] != e.alt_ids[i]).collect();
    assert_eq!((e.ref_ids.len(), differ), (63, vec![30, 31, 32]));
    assert_eq!((e.mode, e.in_scope), (InputMode::SequenceOnly, Ok(())));
    assert!(e.features.iter().all(|&f| f == 0.0) && e.track.iter().all(|&t| t == 0));
}

#[test]
fn both_strands_of_one_gene_give_the_same_input() {
    let s = sequence();
    let n = s.len() as i64;
    let r = String::from_utf8(dna::reverse_complement(s.as_bytes())).unwrap();
    let exon = |start, end| Exon { start, end };
    let forward = Transcript::new(
        "t",
        "g",
        Strand::Forward,
        vec![exon(10, 120), exon(150, 190)],
        vec![CdsPart { start: 40, end: 120, phase: 0 }, CdsPart { start: 150, end: 179, phase: 0 }],
    )
    .unwrap();
    let reverse = Transcript::new(
        "t",
        "g",
        Strand::Reverse,
        vec![exon(n + 1 - 120, n + 1 - 10), exon(n + 1 - 190, n + 1 - 150)],
        vec![
            CdsPart { start: n + 1 - 120, end: n + 1 - 40, phase: 0 },
            CdsPart { start: n + 1 - 179, end: n + 1 - 150, phase: 0 },
        ],
    )
    .unwrap();
    for p in [20, 60, 118, 121, 130, 149, 160, 185] {
        let f = mutation_at(&s, p);
        let m = Mutation {
            ref_allele: dna::complement(f.ref_allele),
            position: n as u64 + 1 - p as u64,
            alt_allele: dna::complement(f.alt_allele),
        };
        let a = encoder().encode_sequence(&s, &f, Some(&forward)).unwrap();
        let b = encoder().encode_sequence(&r, &m, Some(&reverse)).unwrap();
        assert_eq!(a, b, "position {p}");
    }
}

#[test]
fn a_wrong_reference_base_and_a_position_outside_are_refused() {
    let s = sequence();
    let mut m = mutation_at(&s, 5);
    core::mem::swap(&mut m.ref_allele, &mut m.alt_allele);
    assert!(matches!(
        encoder().encode_sequence(&s, &m, None),
        Err(EncodeError::RefMismatch { position: 5, .. })
    ));
    m.position = 202;
    assert!(matches!(
        encoder().encode_sequence(&s, &m, None),
        Err(EncodeError::OutOfRange { position: 202, first: 1, last: 201 })
    ));
    m.position = u64::MAX;
    assert!(encoder().encode_sequence(&s, &m, None).is_err());
}

#[test]
fn short_and_ambiguous_sequences_are_out_of_scope_not_guessed() {
    let m = |t: &str| t.parse::<Mutation>().unwrap();
    assert_eq!(encoder().encode_sequence("A", &m("A1C"), None).unwrap().in_scope, Err(ScopeReason::TooShort));
    assert_eq!(
        encoder().encode_sequence("NNANN", &m("A3C"), None).unwrap().in_scope,
        Err(ScopeReason::AmbiguousBases)
    );
}

#[test]
fn an_ambiguous_base_nearby_leaves_a_smaller_window_of_known_bases() {
    let s = sequence();
    let near = format!("{}N{}", &s[..90], &s[91..]);
    let e = encoder().encode_sequence(&near, &mutation_at(&s, 101), None).unwrap();
    assert_eq!((e.window_bases, e.in_scope), (19, Ok(())));
}

#[test]
fn a_stretch_within_a_flank_keeps_coordinates() {
    let s = Stretch { bases: b"ACGTACGT", first: 100 };
    let w = s.within(103, 1);
    assert_eq!((w.bases, w.first), (b"GTA".as_slice(), 102));
    assert_eq!(s.within(100, 2).bases, b"ACG");
    assert_eq!(s.within(5, 2).bases, b"");
    assert_eq!(s.within(500, 2).bases, b"");
}
