//! What `locus prepare` says of the set of a language model.

use std::{cell::RefCell, collections::BTreeMap};

use sha2::{Digest, Sha256};

use super::{Regions, Stretch, overlap};
use crate::{
    Result,
    data::{
        Split,
        describe::{Item, Label, SetReport, by_split, leakage},
    },
    packed::PackedGenome,
};

/// Bases that are read at once.
const CHUNK: u64 = 1 << 20;

/// What a stretch holds, read piece by piece.
struct Seen {
    stretch: Stretch,
    split: Split,
    /// SHA-256 of its bases.
    key: String,
    gc: Option<f64>,
    uncertain: f64,
}

impl Seen {
    fn of(genome: &PackedGenome, stretch: Stretch, split: Split) -> Result<Self> {
        let (mut hash, mut gc, mut known) = (Sha256::new(), 0_u64, 0_u64);
        for start in (stretch.start..stretch.end).step_by(CHUNK as usize) {
            let bases = genome.bases(stretch.record, start, (start + CHUNK).min(stretch.end))?;
            hash.update(&bases);
            gc += bases.iter().filter(|b| matches!(b, b'G' | b'C')).count() as u64;
            known += bases.iter().filter(|b| matches!(b, b'A' | b'C' | b'G' | b'T')).count() as u64;
        }
        Ok(Self {
            stretch,
            split,
            key: hex::encode(hash.finalize()),
            gc: (known > 0).then(|| gc as f64 / known as f64),
            uncertain: (stretch.len() - known) as f64 / stretch.len().max(1) as f64,
        })
    }
}

/// Figures of the stretches that are trained on, that choose checkpoints (`val_select`) and that bits per base are
/// reported on (`val_fit`); the items are what their page is drawn from. `sources` are the files with their SHA-256.
/// No stretch is held in memory.
///
/// # Errors
/// Stretches that are not in the genome, or what `then` gives.
pub fn describe<T>(
    name: &str,
    genome: &PackedGenome,
    regions: &Regions,
    sources: BTreeMap<String, String>,
    then: impl FnOnce(&SetReport, &[Item<'_>]) -> Result<T>,
) -> Result<T> {
    let (select, report) = regions.held_out_parts();
    let parts = [(Split::Train, &regions.train), (Split::ValSelect, &select), (Split::ValFit, &report)];
    let all = parts.into_iter().flat_map(|(split, list)| list.iter().map(move |s| (*s, split)));
    let seen = all.map(|(stretch, split)| Seen::of(genome, stretch, split)).collect::<Result<Vec<_>>>()?;
    let items: Vec<Item<'_>> = seen
        .iter()
        .map(|s| Item {
            split: s.split,
            label: Label::None,
            length: s.stretch.len() as usize,
            gc: s.gc,
            uncertain: s.uncertain,
            group: Some(&genome.records()[s.stretch.record].name),
            key: &s.key,
        })
        .collect();
    let failed = RefCell::new(None);
    let near = |of: &[usize], within: &[usize]| {
        let stretches =
            |places: &[usize]| -> Vec<Stretch> { places.iter().map(|&i| seen[i].stretch).collect() };
        overlap::shared(genome, &stretches(of), &stretches(within)).unwrap_or_else(|error| {
            failed.replace(Some(error));
            0
        })
    };
    let report = SetReport {
        name: name.to_owned(),
        kind: "stretches of DNA without labels; val_select chooses checkpoints, val_fit is reported on"
            .into(),
        sources,
        left_out: regions.left_out.iter().map(|(why, bases)| (format!("{why} (bases)"), *bases)).collect(),
        splits: by_split(&items),
        leakage: leakage(&items, near),
        near_means:
            "a stretch of which the other split has three tenths of the 64-mers that do not overlap, on \
                     either strand; groups are records of the files, which blocks may divide"
                .into(),
    };
    match failed.into_inner() {
        Some(error) => Err(error),
        None => then(&report, &items),
    }
}

#[cfg(test)]
mod tests {
    use locus_genome::dna;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::packed::PackedWriter;

    fn bases(seed: u64, n: usize) -> Vec<u8> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| b"ACGT"[rng.random_range(0..4)]).collect()
    }

    #[test]
    fn stretches_are_counted_and_what_is_held_out_is_looked_for_in_train_on_both_strands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.packed");
        let held = bases(1, 4_000);
        let mut train = bases(2, 10_000);
        let mut writer = PackedWriter::create(&path).unwrap();
        let clean = train.clone();
        // An odd place, on the other strand.
        train.splice(3_333..3_333, dna::reverse_complement(&held[500..3_500]));
        for (name, record) in [
            ("leaky", &train),
            ("clean", &clean),
            ("held", &held),
            ("gc", &b"GGCCN".repeat(300)),
            ("other", &bases(3, 3_000)),
        ] {
            writer.record(name, "").unwrap();
            writer.bases(record).unwrap();
        }
        writer.finish().unwrap();
        let genome = PackedGenome::open(&path).unwrap();
        let whole = |record: usize| Stretch { record, start: 0, end: genome.records()[record].len };
        for (first, near) in [(0, 1), (1, 0)] {
            let regions = Regions {
                train: vec![whole(first)],
                held_out: vec![whole(3), whole(2), whole(4)],
                left_out: [("test".to_owned(), 7)].into(),
            };
            let report = describe("toy", &genome, &regions, BTreeMap::new(), |r, items| {
                assert_eq!(items.len(), 4);
                Ok(r.clone())
            })
            .unwrap();
            assert_eq!((report.splits["train"].records, report.splits["val_fit"].records), (1, 2));
            assert!(report.splits["train"].classes.is_empty() && report.splits["train"].values.is_none());
            let select = &report.splits["val_select"];
            assert_eq!((select.gc.unwrap().mean, select.lengths.max), (1.0, 1_500.0));
            assert!((select.uncertain - 0.2).abs() < 1e-9);
            let leak = report.leakage.iter().find(|l| l.of == "val_fit" && l.within == "train").unwrap();
            assert_eq!((leak.near, leak.exact, leak.shared_groups), (near, 0, 0));
            assert_eq!(report.left_out["test (bases)"], 7);
        }
    }
}
