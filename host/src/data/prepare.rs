//! FASTA, GFF3 and VCF → [`Dataset`].

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use locus_genome::{KmerTokenizer, ReferencePack, Strand, VariantEncoder, encode::CONTEXT_BASES, vcf};
use sha2::{Digest, Sha256};

use super::{Dataset, Pair, Record, Split};
use crate::{Error, Result, files};

/// The three files of a task.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// Bases.
    pub fasta: &'a Path,
    /// Transcripts.
    pub gff3: &'a Path,
    /// Labelled variants: INFO keys GENE, LABEL, SPLIT, and STARS where known.
    pub vcf: &'a Path,
}

/// How records become rows.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// k-mer tokenizer.
    pub tokenizer: KmerTokenizer,
    /// k-mers in a whole window.
    pub window_kmers: usize,
    /// Fewest and most bases on each side of a cropped copy.
    pub crop_flank: (u64, u64),
    /// Keep one record in so many, for trials; 1 keeps all.
    pub keep_one_in: usize,
    /// Seed of crops.
    pub seed: u64,
}

/// A number from a seed and a text, the same on every machine.
pub fn hash(seed: u64, text: &str) -> u64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(text).finalize();
    u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

/// Halves validation: a number of its own, so that runs of several seeds are chosen and calibrated on the same
/// records.
const VALIDATION_SEED: u64 = 20_261_124;

/// The half of validation that a group is in.
pub fn validation_half(group: &str) -> Split {
    if hash(VALIDATION_SEED, group).is_multiple_of(2) { Split::ValSelect } else { Split::ValFit }
}

/// Validation is halved by gene cluster: genes that share a locus stay together.
fn split_of(named: &str, cluster: &str) -> Option<Split> {
    match named {
        "train" => Some(Split::Train),
        "val" => Some(validation_half(cluster)),
        "test" => Some(Split::Test),
        _ => None,
    }
}

/// Encodes every record of the VCF that the model can read and that has a label and a split.
///
/// # Errors
/// A file that cannot be read, or no usable record at all.
pub fn prepare(sources: Sources<'_>, options: Options, mut tick: impl FnMut(u64, u64)) -> Result<Dataset> {
    let reference = ReferencePack::open(sources.fasta, sources.gff3)?;
    let encoder = VariantEncoder::new(options.tokenizer, options.window_kmers);
    let mut left_out: BTreeMap<String, u64> = BTreeMap::new();
    let mut records = Vec::new();
    let mut held_out: HashSet<(String, i64)> = HashSet::new();
    let rows = vcf::Reader::open(sources.vcf)?.collect::<Result<Vec<_>, _>>()?;
    let total = rows.len() as u64;
    for (n, row) in rows.into_iter().enumerate() {
        tick(n as u64 + 1, total);
        let held = row.info("SPLIT").is_some_and(|s| s != "train");
        if let (true, Ok(variant)) = (held, &row.variant)
            && let Some(region) = region_of(&reference, &variant.contig, variant.position as i64)
        {
            held_out.insert((reference.records()[region].contig.clone(), reference.records()[region].first));
        }
        if !n.is_multiple_of(options.keep_one_in.max(1)) {
            continue;
        }
        match encode(&reference, &encoder, &row, options) {
            Ok(record) => records.push(record),
            Err(reason) => *left_out.entry(reason).or_default() += 1,
        }
    }
    if records.is_empty() {
        return Err(Error::Data {
            what: format!("{}", sources.vcf.display()),
            got: format!("no usable record ({left_out:?})"),
            expected: "single-base variants with INFO GENE, LABEL (0 or 1) and SPLIT (train, val or test)"
                .into(),
        });
    }
    let sources = [("fasta", sources.fasta), ("gff3", sources.gff3), ("vcf", sources.vcf)];
    Ok(Dataset {
        k: options.tokenizer.k(),
        stride: options.tokenizer.stride(),
        window_kmers: options.window_kmers,
        features: locus_genome::feature_names(),
        sources: sources
            .into_iter()
            .map(|(n, p)| Ok((n.to_owned(), files::sha256(p)?)))
            .collect::<Result<_>>()?,
        left_out,
        pretraining_regions: free_regions(&reference, &held_out),
        records,
    })
}

fn region_of(reference: &ReferencePack, contig: &str, position: i64) -> Option<usize> {
    reference.records().iter().position(|r| r.contig == contig && r.first <= position && position <= r.last())
}

/// Regions without validation or test records that do not overlap one with them either.
fn free_regions(reference: &ReferencePack, held_out: &HashSet<(String, i64)>) -> Vec<(String, i64, i64)> {
    let held: HashMap<&str, Vec<(i64, i64)>> = reference
        .records()
        .iter()
        .filter(|r| held_out.contains(&(r.contig.clone(), r.first)))
        .fold(HashMap::new(), |mut all, r| {
            all.entry(r.contig.as_str()).or_default().push((r.first, r.last()));
            all
        });
    let overlaps = |contig: &str, first: i64, last: i64| {
        held.get(contig).is_some_and(|spans| spans.iter().any(|&(f, l)| f <= last && first <= l))
    };
    let free = reference.records().iter().filter(|r| !overlaps(&r.contig, r.first, r.last()));
    free.map(|r| (r.contig.clone(), r.first, r.last())).collect()
}

fn encode(
    reference: &ReferencePack,
    encoder: &VariantEncoder,
    row: &vcf::Row,
    options: Options,
) -> Result<Record, String> {
    let variant = row.variant.as_ref().map_err(|_| "not a variant that can be read".to_owned())?;
    let need = |key: &str| row.info(key).ok_or_else(|| format!("no INFO {key}"));
    let gene = need("GENE")?.to_owned();
    let pathogenic = match need("LABEL")? {
        "1" => true,
        "0" => false,
        _ => return Err("a LABEL that is neither 0 nor 1".into()),
    };
    let split = split_of(need("SPLIT")?, row.info("LRG").unwrap_or(&gene))
        .ok_or("a SPLIT that is not train, val or test")?;
    let transcript = reference.transcript_for(variant, None).map_err(|e| e.code().to_string())?;
    let read = |flank: i64| {
        let encoded = encoder.encode_on(reference, variant, transcript, flank, Strand::Forward);
        encoded.map_err(|e| e.code().to_string())
    };
    let full = read(CONTEXT_BASES)?;
    full.in_scope.map_err(|reason| reason.to_string())?;
    let (least, most) = options.crop_flank;
    let name =
        format!("{}-{}-{}-{}", variant.contig, variant.position, variant.ref_allele, variant.alt_allele);
    let flank = least + hash(options.seed, &name) % (most - least + 1);
    Ok(Record {
        contig: variant.contig.clone(),
        position: variant.position,
        ref_allele: variant.ref_allele.clone(),
        alt_allele: variant.alt_allele.clone(),
        gene,
        split,
        pathogenic,
        stars: row.info("STARS").and_then(|s| s.parse().ok()).unwrap_or(0),
        consequence: full.consequence.map_or_else(String::new, |c| c.so_term().to_owned()),
        reverse: transcript.is_some_and(|t| t.strand == Strand::Reverse),
        full: Pair::of(&full),
        cropped: Pair::of(&read(flank as i64)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_is_halved_by_cluster_and_nothing_else_moves() {
        let split = |n: &str, c: &str| split_of(n, c).unwrap();
        assert_eq!((split("train", "LRG_1"), split("test", "LRG_1")), (Split::Train, Split::Test));
        let halves: Vec<Split> = (0..200).map(|i| split("val", &format!("LRG_{i}"))).collect();
        let select = halves.iter().filter(|&&s| s == Split::ValSelect).count();
        assert!((70..130).contains(&select), "{select} of 200");
        assert_eq!(split_of("other", "LRG_1"), None);
    }

    #[test]
    fn the_validation_halves_do_not_depend_on_the_seed_of_the_training() {
        let dir = tempfile::tempdir().unwrap();
        let at = |n: &str| dir.path().join(n);
        let files = crate::commands::SourceFiles {
            fasta: at("p.fa"),
            gff3: at("p.gff3"),
            vcf: at("p.vcf"),
            floors: None,
        };
        crate::panel::generate(20, 3).write(&files).unwrap();
        let of_seed = |seed: u64| {
            let sources = Sources { fasta: &files.fasta, gff3: &files.gff3, vcf: &files.vcf };
            let tokenizer = KmerTokenizer::new(3, 1).unwrap();
            let options = Options { tokenizer, window_kmers: 61, crop_flank: (6, 14), keep_one_in: 1, seed };
            prepare(sources, options, |_, _| ()).unwrap()
        };
        let (one, other) = (of_seed(1), of_seed(2));
        let splits = |d: &Dataset| d.records.iter().map(|r| r.split).collect::<Vec<_>>();
        assert_eq!(splits(&one), splits(&other));
        assert!(!one.of_split(Split::ValSelect).is_empty() && !one.of_split(Split::ValFit).is_empty());
        assert_ne!(one.records, other.records, "crops do");
    }
}
