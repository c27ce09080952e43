//! A generated panel: genes with exons, codons and splice sites, and variants whose effect follows from
//! where they lie. A test aid: it has the form of real data and none of its content.

use std::fmt::Write;

use locus_genome::{amino, codon, dna};
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use crate::{Result, commands::SourceFiles, files};

const FLANK: usize = 80;
const UTR: usize = 30;
const CODONS: usize = 120;
const INTRON: usize = 90;
/// Coding bases before each of the two introns; neither ends a codon.
const JUNCTIONS: [usize; 2] = [110, 235];
const VARIANTS: usize = 48;

/// Three files as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panel {
    /// Bases, one region a gene.
    pub fasta: String,
    /// Transcripts, on both strands.
    pub gff3: String,
    /// Variants with GENE, LABEL, STARS, EFFECT and SPLIT.
    pub vcf: String,
}

impl Panel {
    /// Writes the files where a recipe will look for them.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, to: &SourceFiles) -> Result<()> {
        for (path, text) in [(&to.fasta, &self.fasta), (&to.gff3, &self.gff3), (&to.vcf, &self.vcf)] {
            files::write_atomically(path, text.as_bytes())?;
        }
        Ok(())
    }
}

/// A gene in its own sense.
struct Gene {
    bases: Vec<u8>,
    /// Offset of each coding base.
    coding: Vec<usize>,
    /// Exons as half-open offsets.
    exons: Vec<(usize, usize)>,
}

impl Gene {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        let any = |rng: &mut ChaCha8Rng, n: usize| -> Vec<u8> {
            (0..n).map(|_| b"ACGT"[rng.random_range(0..4)]).collect()
        };
        let mut cds = b"ATG".to_vec();
        while cds.len() < 3 * (CODONS - 1) {
            let codon = [0; 3].map(|_| b"ACGT"[rng.random_range(0..4)]);
            if codon::translate(codon) != Some(b'*') {
                cds.extend(codon);
            }
        }
        cds.extend(b"TAA");
        let mut gene = Self { bases: any(rng, FLANK), coding: Vec::new(), exons: Vec::new() };
        let mut exon = gene.bases.len();
        gene.bases.extend(any(rng, UTR));
        for (i, &base) in cds.iter().enumerate() {
            if JUNCTIONS.contains(&i) {
                gene.exons.push((exon, gene.bases.len()));
                gene.bases.extend(b"GT");
                gene.bases.extend(any(rng, INTRON - 4));
                gene.bases.extend(b"AG");
                exon = gene.bases.len();
            }
            gene.coding.push(gene.bases.len());
            gene.bases.push(base);
        }
        gene.bases.extend(any(rng, UTR));
        gene.exons.push((exon, gene.bases.len()));
        gene.bases.extend(any(rng, FLANK));
        gene
    }

    /// Whether a change in sense is harmful, and what it is.
    fn effect(&self, offset: usize, alt: u8) -> (bool, &'static str) {
        if let Some(index) = self.coding.iter().position(|&c| c == offset) {
            let first = index / 3 * 3;
            let codon = [0, 1, 2].map(|i| self.bases[self.coding[first + i]]);
            let mut changed = codon;
            changed[index - first] = alt;
            let (was, is) =
                (codon::translate(codon).unwrap_or(b'X'), codon::translate(changed).unwrap_or(b'X'));
            let similar = || match (amino::residue_index(was), amino::residue_index(is)) {
                (Some(r), Some(a)) => amino::blosum62(r, a) >= -1,
                _ => false,
            };
            return match (was, is) {
                _ if was == is => (false, "synonymous"),
                _ if first == 0 => (true, "start_lost"),
                (b'*', _) => (true, "stop_lost"),
                (_, b'*') => (true, "stop_gained"),
                _ => (!similar(), "missense"),
            };
        }
        let inner = self.exons.windows(2).map(|e| (e[0].1, e[1].0));
        for (donor, end) in inner {
            if (donor..donor + 2).contains(&offset) || (end - 2..end).contains(&offset) {
                return (true, "splice");
            }
        }
        (false, "other")
    }

    fn offset(&self, rng: &mut ChaCha8Rng) -> usize {
        match rng.random_range(0..10) {
            0 | 1 => {
                let ends: Vec<usize> = self
                    .exons
                    .windows(2)
                    .flat_map(|e| [e[0].1, e[0].1 + 1, e[1].0 - 2, e[1].0 - 1])
                    .collect();
                ends.choose(rng).copied().unwrap_or(0)
            }
            2 | 3 => rng.random_range(0..self.bases.len()),
            _ => self.coding[rng.random_range(0..self.coding.len())],
        }
    }
}

/// A panel of `genes` genes; the same seed gives the same bytes.
pub fn generate(genes: usize, seed: u64) -> Panel {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut fasta = String::new();
    let mut gff3 = "##gff-version 3\n".to_owned();
    let mut rows = Vec::new();
    for n in 0..genes {
        let gene = Gene::new(&mut rng);
        let (first, len, forward) = (10_000 * n + 1_001, gene.bases.len(), n % 2 == 0);
        // 1-based position and strand of an offset in sense.
        let place = |offset: usize| if forward { first + offset } else { first + len - 1 - offset };
        let shown = if forward { gene.bases.clone() } else { dna::reverse_complement(&gene.bases) };
        let _ = writeln!(fasta, ">chr1:{first}-{}", first + len - 1);
        for line in shown.chunks(80) {
            let _ = writeln!(fasta, "{}", String::from_utf8_lossy(line));
        }
        write_gene(&mut gff3, &gene, n, forward, &place);
        let split = match n % 10 {
            0..=5 => "train",
            6..=8 => "val",
            _ => "test",
        };
        let mut taken = std::collections::BTreeSet::new();
        while taken.len() < VARIANTS {
            let offset = gene.offset(&mut rng);
            let alt = b"ACGT"[rng.random_range(0..4)];
            if alt == gene.bases[offset] || !taken.insert((offset, alt)) {
                continue;
            }
            let (harmful, effect) = gene.effect(offset, alt);
            let turn = |b: u8| char::from(if forward { b } else { dna::complement(b) });
            let info =
                format!("GENE=SYN{n};LABEL={};STARS=1;EFFECT={effect};SPLIT={split}", u8::from(harmful));
            rows.push((place(offset), format!("{}\t{}\t.\t.\t{info}", turn(gene.bases[offset]), turn(alt))));
        }
    }
    rows.sort();
    let mut vcf = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n".to_owned();
    for (position, rest) in rows {
        let _ = writeln!(vcf, "chr1\t{position}\t.\t{rest}");
    }
    Panel { fasta, gff3, vcf }
}

fn write_gene(gff3: &mut String, gene: &Gene, n: usize, forward: bool, place: &dyn Fn(usize) -> usize) {
    let strand = if forward { '+' } else { '-' };
    let mut line = |kind: &str, from: usize, to: usize, phase: &str, attributes: &str| {
        let (a, b) = (place(from), place(to - 1));
        let _ = writeln!(
            gff3,
            "chr1\tsynthetic\t{kind}\t{}\t{}\t.\t{strand}\t{phase}\t{attributes}",
            a.min(b),
            a.max(b)
        );
    };
    let (first, last) = (gene.exons[0].0, gene.exons[gene.exons.len() - 1].1);
    line("gene", first, last, ".", &format!("ID=gene:SYN{n};Name=SYN{n}"));
    line("mRNA", first, last, ".", &format!("ID=transcript:SYN{n}t1;Parent=gene:SYN{n}"));
    let mut before = 0;
    for &(from, to) in &gene.exons {
        line("exon", from, to, ".", &format!("Parent=transcript:SYN{n}t1"));
        let inside: Vec<usize> = gene.coding.iter().copied().filter(|c| (from..to).contains(c)).collect();
        if let (Some(&start), Some(&end)) = (inside.first(), inside.last()) {
            let phase = ((3 - before % 3) % 3).to_string();
            line("CDS", start, end + 1, &phase, &format!("Parent=transcript:SYN{n}t1"));
            before += inside.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use locus_genome::{KmerTokenizer, ReferencePack, VariantEncoder, vcf};

    use super::*;

    #[test]
    fn the_files_say_the_effect_that_the_genome_crate_reads_from_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |n: &str| dir.path().join(n);
        let files = SourceFiles { fasta: at("p.fa"), gff3: at("p.gff3"), vcf: at("p.vcf"), floors: None };
        generate(6, 11).write(&files).unwrap();
        let reference = ReferencePack::open(&files.fasta, &files.gff3).unwrap();
        let encoder = VariantEncoder::new(KmerTokenizer::new(3, 1).unwrap(), 61);
        let mut seen = std::collections::BTreeSet::new();
        for row in vcf::Reader::open(&files.vcf).unwrap() {
            let row = row.unwrap();
            let encoded = encoder.encode_reference(&reference, row.variant.as_ref().unwrap(), None).unwrap();
            let term = encoded.consequence.unwrap().so_term();
            let effect = row.info("EFFECT").unwrap();
            let agrees = match effect {
                "synonymous" => term.contains("synonymous"),
                "missense" => term.starts_with("missense"),
                "splice" => term.starts_with("splice_donor") || term.starts_with("splice_acceptor"),
                "other" => ["intron", "UTR", "stream"].iter().any(|t| term.contains(t)),
                exact => term == exact,
            };
            assert!(agrees, "{effect} against {term} at {}", row.position);
            assert_eq!(row.info("GENE"), encoded.gene.as_deref());
            seen.insert(effect.to_owned());
        }
        assert!(seen.len() >= 5, "{seen:?}");
    }

    #[test]
    fn one_seed_gives_one_panel_with_every_split_and_both_labels() {
        let panel = generate(20, 5);
        assert_eq!(panel, generate(20, 5));
        assert_ne!(panel, generate(20, 6));
        for word in ["SPLIT=train", "SPLIT=val", "SPLIT=test", "LABEL=0", "LABEL=1"] {
            assert!(panel.vcf.matches(word).count() >= 2 * VARIANTS, "{word}");
        }
    }
}
