use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use proptest::prelude::*;

use super::*;
use crate::{
    EncodeError, Strand, Transcript,
    consequence::Bases,
    dna,
    transcript::{CdsPart, Exon},
};

struct Text(Vec<u8>);

impl Bases for Text {
    fn base(&self, position: i64) -> Option<u8> {
        self.0.get(usize::try_from(position - 1).ok()?).copied()
    }
}

/// 5' UTR 11-20, coding 21-32 and 41-58, 3' UTR 59-80; the intron is 33-40.
///
/// ATG GCA GCA AAA | CTG CTG GAT GAT TGG TAA
const SENSE: &str = "CCCCCCCCCCGTGTGTGTGCATGGCAGCAAAAGTCCCCAGCTGCTGGATGATTGGTAACCCTGAAACCTTTTTGGCCACACGTTTT";

fn transcript(strand: Strand) -> (Text, Transcript) {
    let n = SENSE.len() as i64;
    let place = |start: i64, end: i64| match strand {
        Strand::Forward => (start, end),
        Strand::Reverse => (n + 1 - end, n + 1 - start),
    };
    let exon = |(start, end)| Exon { start, end };
    let part = |(start, end), phase| CdsPart { start, end, phase };
    let transcript = Transcript::new(
        "T1",
        "G",
        strand,
        [place(11, 32), place(41, 80)].map(exon).to_vec(),
        [part(place(21, 32), 0), part(place(41, 58), 0)].to_vec(),
    )
    .unwrap();
    let text = match strand {
        Strand::Forward => SENSE.as_bytes().to_vec(),
        Strand::Reverse => dna::reverse_complement(SENSE.as_bytes()),
    };
    (Text(text), transcript)
}

/// The names that a request's name comes back as, the same on both strands.
fn renamed(name: &str) -> Result<(Option<String>, Option<String>), EncodeError> {
    let [forward, reverse] = [Strand::Forward, Strand::Reverse].map(|strand| {
        let (text, transcript) = transcript(strand);
        let located = on_transcript(&text, &transcript, &name.parse()?)?;
        let names = names(&text, &transcript, located.position, &located.ref_allele, &located.alt_allele);
        Ok((names.c.map(|c| c.replace("T1:", "")), names.p))
    });
    match (&forward, &reverse) {
        // The position is on the forward strand.
        (Err(EncodeError::RefMismatch { got: a, .. }), Err(EncodeError::RefMismatch { got: b, .. })) => {
            assert_eq!(a, b, "{name}");
        }
        _ => assert_eq!(forward, reverse, "{name}"),
    }
    forward
}

#[test]
fn names_come_back_moved_to_the_3_prime_end_on_both_strands() {
    for (asked, c, p) in [
        ("c.4G>A", "c.4G>A", "p.(Ala2Thr)"),
        ("c.6A>G", "c.6A>G", "p.(Ala2=)"),
        ("c.1A>G", "c.1A>G", "p.(Met1?)"),
        ("c.10A>T", "c.10A>T", "p.(Lys4Ter)"),
        ("c.28T>C", "c.28T>C", "p.(Ter10GlnextTer2)"),
        ("c.-1C>T", "c.-1C>T", ""),
        ("c.-10G>T", "c.-10G>T", ""),
        ("c.*3C>T", "c.*3C>T", ""),
        ("c.12+1G>A", "c.12+1G>A", "p.?"),
        ("c.13-1G>A", "c.13-1G>A", "p.?"),
        ("c.12+4C>T", "c.12+4C>T", ""),
        ("c.13-3C>T", "c.13-3C>T", ""),
        // One of four equal bases, and of two equal codons: the last is meant.
        ("c.9del", "c.12del", "p.(Lys4AsnfsTer?)"),
        ("c.4_6del", "c.7_9del", "p.(Ala3del)"),
        ("c.4_6dup", "c.7_9dup", "p.(Ala3dup)"),
        ("c.3_4insGCA", "c.7_9dup", "p.(Ala3dup)"),
        ("c.13_15del", "c.16_18del", "p.(Leu6del)"),
        ("c.19_24del", "c.19_24del", "p.(Asp7_Asp8del)"),
        ("c.3_4insTGG", "c.3_4insTGG", "p.(Met1_Ala2insTrp)"),
        ("c.4_9delinsTGG", "c.4_9delinsTGG", "p.(Ala2_Ala3delinsTrp)"),
        ("c.4_9delinsTAA", "c.4_8delinsTA", "p.(Ala2Ter)"),
        ("c.5_6delinsGG", "c.5_6delinsGG", "p.(Ala2Gly)"),
        ("c.25_26inv", "c.25_26inv", "p.(Trp9Gln)"),
        ("c.12_12+1del", "c.12_12+1del", "p.?"),
        ("c.2del", "c.2del", "p.(Met1?)"),
        ("c.*1del", "c.*3del", ""),
        ("c.12+2dup", "c.12+2dup", ""),
    ] {
        let (got_c, got_p) = renamed(asked).unwrap_or_else(|error| panic!("{asked}: {error}"));
        assert_eq!((got_c.as_deref(), got_p.as_deref().unwrap_or_default()), (Some(c), p), "{asked}");
    }
}

#[test]
fn a_name_that_means_nothing_here_is_refused_with_its_reason() {
    let reason = |name: &str| renamed(name).unwrap_err().to_string();
    for (name, part) in [
        ("c.4A>G", "holds G"),
        ("c.4_6delTTT", "reference allele T"),
        ("c.4_6delGC", "not as many"),
        ("c.99A>G", "larger than the coding sequence"),
        ("c.-11A>G", "outside"),
        ("c.*99A>G", "outside"),
        ("c.12+9A>G", "shorter"),
        ("c.11+1A>G", "inside one"),
        ("c.12-1A>G", "inside one"),
        ("c.*22+1A>G", "no intron"),
        ("c.9_4del", "before it begins"),
        ("c.12_13insT", "neighbours"),
        ("n.4G>A", "number it with c."),
        ("c.4=", "same reference"),
    ] {
        assert!(reason(name).contains(part), "{name}: {}", reason(name));
    }
}

#[test]
fn a_transcript_without_coding_sequence_is_numbered_from_its_start() {
    let (text, coding) = transcript(Strand::Forward);
    let bare = Transcript::new("R1", "G", Strand::Forward, coding.exons().to_vec(), Vec::new()).unwrap();
    let located = on_transcript(&text, &bare, &"n.14T>A".parse().unwrap());
    assert!(matches!(located, Err(EncodeError::RefMismatch { .. })));
    let located = on_transcript(&text, &bare, &"n.14G>A".parse().unwrap()).unwrap();
    let found = names(&text, &bare, located.position, &located.ref_allele, &located.alt_allele);
    assert_eq!(found, Names { c: Some("R1:n.14G>A".into()), p: None });
}

#[test]
fn references_are_read_and_what_is_not_strict_is_refused() {
    let name: Hgvs = "NC_000017.11(NM_007294.4):c.4675+1G>A".parse().unwrap();
    assert_eq!(
        (name.reference.as_deref(), name.selected.as_deref()),
        (Some("NC_000017.11"), Some("NM_007294.4"))
    );
    assert_eq!(name.from, Place { datum: Datum::Start, base: 4675, offset: 1 });
    let name: Hgvs = "c.*5_*7del".parse().unwrap();
    assert_eq!((name.reference, name.from.datum, name.to.base), (None, Datum::Stop, 7));
    assert!(is_hgvs("BRCA1:c.5096G>A") && is_hgvs("c.-19A>G") && is_hgvs("X:p.Arg1Gly"));
    assert!(!is_hgvs("chr17-43045705-T-A") && !is_hgvs("HLA:1-5-A-T") && !is_hgvs(""));
    for text in [
        "X:p.Arg1699Gln",
        "X:r.4g>a",
        "c.",
        "c.0A>G",
        "c.+4A>G",
        "c.04A>G",
        "c.4A>GG",
        "c.4A>",
        "c.4_4del",
        "c.4_5A>G",
        "c.4ins",
        "c.4insA",
        "c.4delX",
        "c.4(5)del",
        "c.(4_5)del",
        "c.?_5del",
        "g.*4A>G",
        "g.-4A>G",
        "g.4+1A>G",
        "c.4A>G;5A>G",
        "c.4con5",
        "X Y:c.4A>G",
        ":c.4A>G",
        "ACGTACGTACGTACGT:c.4A>G",
        "c.4del3",
        "c.9999999999999A>G",
        "c.4A>N",
        "é:c.4A>G",
        "c.4é",
        "c.4inv",
    ] {
        assert!(text.parse::<Hgvs>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn nothing_that_is_read_panics(text in "\\PC{0,40}", tail in "(c|n|g)\\.[-*0-9+_ACGTdelinsdup>=]{0,24}") {
        for text in [text, tail] {
            if let Ok(name) = text.parse::<Hgvs>() {
                for strand in [Strand::Forward, Strand::Reverse] {
                    let (bases, transcript) = transcript(strand);
                    let _ = on_transcript(&bases, &transcript, &name);
                    let _ = on_contig(&bases, &name);
                }
            }
        }
    }

    /// Whatever is changed: the name finds the same sequence, and is its own name.
    #[test]
    fn a_name_finds_what_it_was_given_for(
        first in 12_usize..78, removed in 0_usize..8, added in "[ACGT]{0,8}", reverse: bool,
    ) {
        let strand = if reverse { Strand::Reverse } else { Strand::Forward };
        let (text, transcript) = transcript(strand);
        let removed = removed.min(79 - first);
        let at = first - 1;
        // An anchor before, as VCF has it.
        let reference = text.0[at - 1..at + removed].to_vec();
        let alt = [&text.0[at - 1..at], added.as_bytes()].concat();
        prop_assume!(reference != alt);
        let applied = |position: i64, reference: &[u8], alt: &[u8]| {
            let at = position as usize - 1;
            assert_eq!(&text.0[at..at + reference.len()], reference);
            [&text.0[..at], alt, &text.0[at + reference.len()..]].concat()
        };
        let given = names(&text, &transcript, first as i64 - 1, &reference, &alt);
        if let Some(c) = given.c.clone() {
            let located = on_transcript(&text, &transcript, &c.parse().unwrap()).unwrap();
            prop_assert_eq!(
                applied(located.position, &located.ref_allele, &located.alt_allele),
                applied(first as i64 - 1, &reference, &alt),
                "{}", c
            );
            let again = names(&text, &transcript, located.position, &located.ref_allele, &located.alt_allele);
            prop_assert_eq!(given, again);
        }
    }
}
