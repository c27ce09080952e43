//! Which stretches of a packed genome are trained on, which are held out to report on, and which nobody sees.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use locus_genome::{fasta::parse_region, vcf};
use serde::{Deserialize, Serialize};

use super::overlap;
use crate::{Error, Result, data::prepare::hash, packed::PackedGenome};

/// Bases that are held out, or not, together where nothing else decides.
const BLOCK: u64 = 100_000;

/// A stretch of a record of a packed genome, 0-based and half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Number of the record.
    pub record: usize,
    /// First base.
    pub start: u64,
    /// Base after the last.
    pub end: u64,
}

impl Stretch {
    /// Number of bases.
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether there is no base.
    pub const fn is_empty(&self) -> bool {
        self.end == self.start
    }
}

/// The stretches of a language-model set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regions {
    /// Trained on.
    pub train: Vec<Stretch>,
    /// Reported on.
    pub held_out: Vec<Stretch>,
    /// Bases that were left out of training, by reason.
    pub left_out: BTreeMap<String, u64>,
}

/// What decides who sees a stretch.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Labelled variants: a record over validation variants is held out, one over test variants is seen by nobody,
    /// and neither is trained on.
    pub variants: Option<&'a Path>,
    /// Share of the blocks of 100,000 bases that is held out where neither variants nor a `split=` in the header
    /// says so.
    pub held_out_share: f64,
    /// Shortest stretch that is kept, in bases.
    pub shortest: u64,
    /// Places the held-out blocks.
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Train,
    HeldOut,
    Unseen,
}

impl Regions {
    /// Assigns every stretch of a genome.
    ///
    /// # Errors
    /// Variants that cannot be read, or nothing left to train on or to report on.
    pub fn assign(genome: &PackedGenome, rules: Rules<'_>) -> Result<Self> {
        let by_variants = rules.variants.map(|path| of_variants(genome, path)).transpose()?;
        let mut regions = Self::default();
        let mut unseen = Vec::new();
        for (record, packed) in genome.records().iter().enumerate() {
            let word = |split: &str| packed.description.split_whitespace().any(|w| w == split);
            let header = if word("split=val") {
                Some(Role::HeldOut)
            } else if word("split=test") {
                Some(Role::Unseen)
            } else {
                word("split=train").then_some(Role::Train)
            };
            let of_record = by_variants.as_ref().and_then(|roles| roles[record]).max(header);
            let block = if of_record.is_some() { packed.len.max(1) } else { BLOCK };
            for start in (0..packed.len).step_by(block as usize) {
                let stretch = Stretch { record, start, end: (start + block).min(packed.len) };
                let drawn = || {
                    let number = hash(rules.seed, &format!("{}:{start}", packed.name));
                    let held = (number as f64) < rules.held_out_share * u64::MAX as f64;
                    if held { Role::HeldOut } else { Role::Train }
                };
                match of_record.unwrap_or_else(drawn) {
                    Role::Train => regions.train.push(stretch),
                    Role::HeldOut => regions.held_out.push(stretch),
                    Role::Unseen => unseen.push(stretch),
                }
            }
        }
        regions.left_out.insert("test".into(), unseen.iter().map(Stretch::len).sum());
        regions.left_out.insert("held out".into(), regions.held_out.iter().map(Stretch::len).sum());
        let before: u64 = regions.train_bases();
        unseen.extend(&regions.held_out);
        regions.train = overlap::without(genome, &merged(&regions.train), &unseen)?;
        regions.left_out.insert("also held out or test".into(), before - regions.train_bases());
        let mut short = 0;
        for list in [&mut regions.train, &mut regions.held_out] {
            list.retain(|s| {
                let known = s.len() - genome.records()[s.record].ambiguous(s.start, s.end);
                let keep = known >= rules.shortest;
                short += if keep { 0 } else { s.len() };
                keep
            });
        }
        regions.left_out.insert("too short or ambiguous".into(), short);
        for (what, list) in [("train", &regions.train), ("held out", &regions.held_out)] {
            if list.is_empty() {
                return Err(Error::Data {
                    what: format!("stretches that are {what}"),
                    got: format!("none of {} known bases or more ({:?})", rules.shortest, regions.left_out),
                    expected: "longer records, other splits, or a held_out_share that leaves both".into(),
                });
            }
        }
        Ok(regions)
    }

    /// Held-out stretches that checkpoints are chosen by, one in four, and those that are reported on; the same ones
    /// where there is only one.
    pub fn held_out_parts(&self) -> (Vec<Stretch>, Vec<Stretch>) {
        if self.held_out.len() < 2 {
            return (self.held_out.clone(), self.held_out.clone());
        }
        let (select, report): (Vec<_>, Vec<_>) =
            self.held_out.iter().enumerate().partition(|(n, _)| n % 4 == 0);
        let stretches = |part: Vec<(usize, &Stretch)>| part.into_iter().map(|(_, s)| *s).collect();
        (stretches(select), stretches(report))
    }

    /// Bases that are trained on.
    pub fn train_bases(&self) -> u64 {
        self.train.iter().map(Stretch::len).sum()
    }
}

/// Joins neighbours.
fn merged(stretches: &[Stretch]) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for &s in stretches {
        match all.last_mut() {
            Some(last) if last.record == s.record && last.end == s.start => last.end = s.end,
            _ => all.push(s),
        }
    }
    all
}

/// Roles by the variants over each record; a record that overlaps one with validation or test variants is not
/// trained on either. `None` where the record's name is no region.
fn of_variants(genome: &PackedGenome, path: &Path) -> Result<Vec<Option<Role>>> {
    let places: Vec<Option<(&str, i64, i64)>> =
        genome.records().iter().map(|r| parse_region(&r.name)).collect();
    let mut by_contig: HashMap<&str, Vec<usize>> = HashMap::new();
    for (n, place) in places.iter().enumerate() {
        if let Some((contig, _, _)) = place {
            by_contig.entry(contig).or_default().push(n);
        }
    }
    let mut roles: Vec<Option<Role>> = places.iter().map(|p| p.map(|_| Role::Train)).collect();
    let near = |contig: &str, first: i64, last: i64| -> Vec<usize> {
        let over = |&&n: &&usize| places[n].is_some_and(|(_, f, l)| f <= last && first <= l);
        by_contig.get(contig).into_iter().flatten().filter(over).copied().collect()
    };
    for row in vcf::Reader::open(path)? {
        let row = row?;
        let role = match row.info("SPLIT") {
            Some("val") => Role::HeldOut,
            Some("test") => Role::Unseen,
            _ => continue,
        };
        for n in near(&row.contig, row.position as i64, row.position as i64) {
            roles[n] = roles[n].max(Some(role));
        }
    }
    let decided = roles.clone();
    for (n, place) in places.iter().enumerate() {
        let (Some((contig, first, last)), Some(Role::Train)) = (place, decided[n]) else { continue };
        if near(contig, *first, *last).iter().any(|&other| decided[other] > Some(Role::Train)) {
            roles[n] = Some(Role::Unseen);
        }
    }
    Ok(roles)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::packed::PackedWriter;

    pub(crate) fn random(n: usize, seed: u64) -> Vec<u8> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| b"ACGT"[rng.random_range(0..4)]).collect()
    }

    pub(crate) fn packed(folder: &Path, records: &[(&str, &str, Vec<u8>)]) -> PackedGenome {
        let path = folder.join("g.packed");
        let mut writer = PackedWriter::create(&path).unwrap();
        for (name, description, bases) in records {
            writer.record(name, description).unwrap();
            writer.bases(bases).unwrap();
        }
        writer.finish().unwrap();
        PackedGenome::open(&path).unwrap()
    }

    const RULES: Rules<'_> = Rules { variants: None, held_out_share: 0.0, shortest: 63, seed: 1 };

    #[test]
    fn variants_and_headers_decide_who_sees_a_record() {
        let folder = tempfile::tempdir().unwrap();
        let genome = packed(
            folder.path(),
            &[
                ("chr1:1001-2000", "", random(1_000, 1)),
                ("chr1:5001-6000", "", random(1_000, 2)),
                ("chr1:5901-6900", "", random(1_000, 3)),
                ("chr2:1-1000", "", random(1_000, 4)),
                ("clone1", "split=train", random(1_000, 5)),
                ("clone2", "x split=test", random(1_000, 6)),
                ("clone3", "split=val", random(1_000, 7)),
            ],
        );
        let vcf = folder.path().join("v.vcf");
        let line = |position: u32, split: &str| format!("chr1\t{position}\t.\tA\tC\t.\t.\tSPLIT={split}\n");
        let text = format!(
            "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n{}{}",
            line(1_500, "val"),
            line(5_100, "test")
        );
        fs::write(&vcf, text).unwrap();
        let regions = Regions::assign(&genome, Rules { variants: Some(&vcf), ..RULES }).unwrap();
        let of = |list: &[Stretch]| list.iter().map(|s| s.record).collect::<Vec<_>>();
        assert_eq!((of(&regions.train), of(&regions.held_out)), (vec![3, 4], vec![0, 6]));
        assert_eq!(regions.left_out["test"], 3_000);
    }

    #[test]
    fn blocks_are_held_out_by_the_seed_where_nothing_else_decides() {
        let folder = tempfile::tempdir().unwrap();
        let genome = packed(folder.path(), &[("chrA", "", random(3_000_050, 9))]);
        let rules = Rules { held_out_share: 0.3, ..RULES };
        let one = Regions::assign(&genome, rules).unwrap();
        assert_eq!(one, Regions::assign(&genome, rules).unwrap());
        assert_ne!(one.held_out, Regions::assign(&genome, Rules { seed: 2, ..rules }).unwrap().held_out);
        let held: u64 = one.held_out.iter().map(Stretch::len).sum();
        assert!((200_000..2_000_000).contains(&held), "{held}");
        assert_eq!(held + one.train_bases() + one.left_out["too short or ambiguous"], 3_000_050);
        let (select, report) = one.held_out_parts();
        assert_eq!(select.len() + report.len(), one.held_out.len());
        assert!(!select.is_empty() && select.iter().all(|s| !report.contains(s)));
    }

    #[test]
    fn a_genome_of_short_or_unknown_records_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cases = [
            vec![("a", "split=train", b"N".repeat(9_000)), ("b", "split=val", random(900, 1))],
            vec![("a", "split=train", random(62, 1)), ("b", "split=val", random(900, 1))],
        ];
        for records in cases {
            let genome = packed(folder.path(), &records);
            let error = Regions::assign(&genome, RULES).unwrap_err().to_string();
            assert!(error.contains("train") && error.contains("63"), "{error}");
        }
        let genome = packed(folder.path(), &[("a", "split=train", random(900, 1))]);
        assert!(Regions::assign(&genome, RULES).unwrap_err().to_string().contains("held out"));
    }
}
