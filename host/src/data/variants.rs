//! What `locus prepare` says of a set of variants.

use std::collections::BTreeMap;

use locus_genome::Tokenizer;

use super::{
    Dataset,
    describe::{Item, Label, SetReport, by_split, gc, leakage},
};
use crate::Result;

/// Figures of a set; the items are what its page is drawn from.
///
/// # Errors
/// A tokenizer that cannot be.
pub fn describe<T>(
    name: &str,
    dataset: &Dataset,
    then: impl FnOnce(&SetReport, &[Item<'_>]) -> Result<T>,
) -> Result<T> {
    let kmers = dataset.tokenizer()?;
    let tokenizer = Tokenizer::Dna(kmers);
    let records = &dataset.records;
    let keys: Vec<String> = records
        .iter()
        .map(|r| format!("{}-{}-{}-{}", r.contig, r.position, r.ref_allele, r.alt_allele))
        .collect();
    let items: Vec<Item<'_>> = records
        .iter()
        .zip(&keys)
        .map(|(record, key)| {
            let ids = &record.full.ref_ids;
            // Without [CLS] and [SEP].
            let inner: Vec<u32> =
                ids.iter().skip(1).take(ids.len().saturating_sub(2)).map(|&i| i.into()).collect();
            let window = tokenizer.decode(&inner).unwrap_or_default();
            let unknown = window.bytes().filter(|&b| b == b'N').count();
            Item {
                split: record.split,
                label: Label::Class(if record.pathogenic { "pathogenic" } else { "benign" }),
                length: window.len(),
                gc: gc(&window),
                uncertain: unknown as f64 / window.len().max(1) as f64,
                group: Some(&record.gene),
                key,
            }
        })
        .collect();
    let window = kmers.bases(dataset.window_kmers) as u64;
    let near = |of: &[usize], within: &[usize]| {
        let mut known: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for &i in within {
            known.entry(&records[i].contig).or_default().push(records[i].position);
        }
        known.values_mut().for_each(|positions| positions.sort_unstable());
        let overlaps = |i: &&usize| {
            let record = &records[**i];
            known.get(record.contig.as_str()).is_some_and(|positions| {
                let next = positions.partition_point(|&p| p + window <= record.position);
                positions.get(next).is_some_and(|&p| p < record.position + window)
            })
        };
        of.iter().filter(overlaps).count() as u64
    };
    let report = SetReport {
        name: name.to_owned(),
        kind: "labelled variants".into(),
        sources: dataset.sources.clone(),
        left_out: dataset.left_out.clone(),
        splits: by_split(&items),
        leakage: leakage(&items, near),
        near_means: format!("a variant whose window of {window} bases overlaps that of another"),
    };
    then(&report, &items)
}

#[cfg(test)]
mod tests {
    use locus_genome::KmerTokenizer;

    use super::*;
    use crate::data::{Pair, Record, Split};

    #[test]
    fn windows_that_overlap_across_splits_are_near_and_the_same_variant_is_exact() {
        let kmers = KmerTokenizer::new(3, 1).unwrap();
        let ids = |bases: &[u8]| {
            let inner = kmers.encode(bases).into_iter().map(|i| i as u16);
            [2].into_iter().chain(inner).chain([3]).collect()
        };
        let record = |position, gene: &str, split| Record {
            contig: "chr1".into(),
            position,
            ref_allele: "A".into(),
            alt_allele: "C".into(),
            gene: gene.into(),
            split,
            pathogenic: position > 1000,
            stars: 1,
            consequence: String::new(),
            reverse: false,
            full: Pair { ref_ids: ids(b"GGCCA"), ..Pair::default() },
            cropped: Pair::default(),
        };
        let dataset = Dataset {
            k: 3,
            stride: 1,
            window_kmers: 61,
            features: Vec::new(),
            sources: BTreeMap::new(),
            left_out: BTreeMap::new(),
            pretraining_regions: Vec::new(),
            records: vec![
                record(1000, "A", Split::Train),
                record(5000, "B", Split::Train),
                record(1000, "A", Split::Test),
                record(1062, "C", Split::Test),
                record(1063, "C", Split::Test),
                record(938, "C", Split::Test),
                record(937, "C", Split::Test),
            ],
        };
        let report = describe("x", &dataset, |report, _| Ok(report.clone())).unwrap();
        let leak = &report.leakage[0];
        assert_eq!((leak.shared_groups, leak.exact, leak.near), (1, 1, 3));
        let test = &report.splits["test"];
        assert_eq!((test.lengths.median, test.gc.unwrap().mean), (5.0, 0.8));
        assert_eq!(test.classes, BTreeMap::from([("benign".into(), 3), ("pathogenic".into(), 2)]));
    }
}
