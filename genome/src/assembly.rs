//! Names of genome assemblies, and the RefSeq names of their chromosomes.

use alloc::{format, string::String};

/// RefSeq versions of chromosomes 1 to 22, X and Y.
const GRCH37: [u8; 24] =
    [10, 11, 11, 11, 9, 11, 13, 10, 11, 10, 9, 11, 10, 8, 9, 9, 10, 9, 9, 10, 8, 10, 10, 9];
const GRCH38: [u8; 24] =
    [11, 12, 12, 12, 10, 12, 14, 11, 12, 11, 10, 12, 11, 9, 10, 10, 11, 10, 10, 11, 9, 11, 11, 10];

/// One name for each assembly: `hg19` is GRCh37, `hg38` and `GRCh38.p14` are GRCh38; another stays as it is.
pub fn canonical(name: &str) -> &str {
    let bare = match name.split_once(".p") {
        Some((bare, patch)) if !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit()) => bare,
        _ => name,
    };
    let is = |other: &str| bare.eq_ignore_ascii_case(other);
    match () {
        () if is("GRCh37") || is("hg19") || is("b37") => "GRCh37",
        () if is("GRCh38") || is("hg38") => "GRCh38",
        () => name,
    }
}

/// Whether two names mean one assembly.
pub fn same(a: &str, b: &str) -> bool {
    canonical(a).eq_ignore_ascii_case(canonical(b))
}

/// What a RefSeq name of a human chromosome says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chromosome {
    /// `chr17`.
    pub contig: String,
    /// The assembly of that version; `None` where the name has no version, or that of another assembly.
    pub assembly: Option<&'static str>,
}

/// Reads `NC_000017.11`; `None` where it names no human chromosome.
pub fn chromosome(name: &str) -> Option<Chromosome> {
    let rest = name.strip_prefix("NC_")?;
    let (number, version) = rest.split_once('.').map_or((rest, None), |(n, v)| (n, Some(v)));
    if number == "012920" {
        return Some(Chromosome { contig: "chrM".into(), assembly: None });
    }
    let number: usize = (number.len() == 6).then(|| number.parse().ok())?.filter(|n| (1..=24).contains(n))?;
    let contig = match number {
        23 => "chrX".into(),
        24 => "chrY".into(),
        n => format!("chr{n}"),
    };
    let version = version.map(str::parse::<u8>);
    let is = |versions: &[u8; 24]| version == Some(Ok(versions[number - 1]));
    let assembly = if is(&GRCH38) {
        Some("GRCh38")
    } else if is(&GRCH37) {
        Some("GRCh37")
    } else {
        None
    };
    (version.is_none() || assembly.is_some()).then_some(Chromosome { contig, assembly })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_and_patches_are_one_assembly() {
        assert!(same("hg38", "GRCh38.p14") && same("grch37", "HG19") && same("T2T-CHM13", "t2t-chm13"));
        assert!(!same("hg19", "hg38") && !same("GRCh38.px", "GRCh38"));
    }

    #[test]
    fn a_refseq_version_says_the_assembly() {
        let of = |name: &str| chromosome(name).map(|c| (c.contig, c.assembly));
        assert_eq!(of("NC_000017.11"), Some(("chr17".into(), Some("GRCh38"))));
        assert_eq!(of("NC_000017.10"), Some(("chr17".into(), Some("GRCh37"))));
        assert_eq!(of("NC_000023.11"), Some(("chrX".into(), Some("GRCh38"))));
        assert_eq!(of("NC_000001"), Some(("chr1".into(), None)));
        assert_eq!(of("NC_012920.1"), Some(("chrM".into(), None)));
        for other in ["NC_000025.1", "NC_000000.1", "NC_17.11", "NM_000017.11", "NC_000017.3", "NC_000017.x"]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
