//! Files → [`SequenceSet`]: read, filtered, freed of duplicates, split.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use locus_genome::{ReadError, smiles::Molecule};

use super::{
    SequenceRecord, SequenceSet, SetPlan, Target,
    duplicates::{self, Index},
    filter::{Fault, Reader},
    plan::{SplitBy, TargetKind},
    read::{self, Row},
    scaffold::scaffold,
    split::{self, Part, Unit},
};
use crate::{
    Error, Result,
    data::{Split, prepare::validation_half},
    files,
};

/// A record on its way, with the target as written and the part that a file or column says.
struct Candidate {
    record: SequenceRecord,
    label: String,
    said: Option<Part>,
}

/// Reads every file of a plan below `root`.
///
/// # Errors
/// A file that cannot be read; a target that is missing or is none of the classes; a split that is none; sequences of
/// another alphabet; no record, or a single class, that training could see.
pub fn prepare(plan: &SetPlan, root: &Path) -> Result<SequenceSet> {
    plan.check()?;
    let mut set = SequenceSet {
        alphabet: plan.alphabet,
        classes: plan.target.classes.clone(),
        sources: BTreeMap::new(),
        left_out: BTreeMap::new(),
        wild_type: plan.wild_type.clone(),
        records: Vec::new(),
    };
    let mut candidates = Vec::new();
    for file in &plan.files {
        let path = root.join(&file.path);
        candidates.extend(Intake::new(plan, &path)?.read(file, &mut set.left_out)?);
        set.sources.insert(file.path.display().to_string(), files::sha256(&path)?);
    }
    if plan.target.kind == TargetKind::Class && set.classes.is_empty() {
        let found: BTreeSet<&str> = candidates.iter().map(|c| c.label.as_str()).collect();
        set.classes = found.into_iter().map(str::to_owned).collect();
    }
    for candidate in &mut candidates {
        candidate.record.target = target(plan, &set.classes, candidate)?;
    }
    let candidates = without_duplicates(plan, candidates, &mut set.left_out);
    set.records = with_splits(plan, candidates)?;
    check(&set)?;
    Ok(set)
}

/// What reads one file.
struct Intake<'a> {
    plan: &'a SetPlan,
    path: &'a Path,
    reader: Reader,
    wild_type: Option<String>,
}

impl<'a> Intake<'a> {
    fn new(plan: &'a SetPlan, path: &'a Path) -> Result<Self> {
        let reader = Reader::new(plan.alphabet, plan.t_is_u);
        let wild_type = plan.wild_type.as_deref().map(|text| {
            reader.read(text).map(|(text, _)| text).map_err(|fault| Error::Recipe {
                key: "data.wild_type".into(),
                got: format!("{fault:?}"),
                expected: "a sequence of data.alphabet".into(),
            })
        });
        Ok(Self { plan, path, reader, wild_type: wild_type.transpose()? })
    }

    fn wrong(&self, row: &Row, reason: String) -> Error {
        ReadError::Line { path: self.path.to_owned(), line: row.line, reason }.into()
    }

    fn read(
        &self,
        file: &super::plan::FilePlan,
        left_out: &mut BTreeMap<String, u64>,
    ) -> Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        let (mut rows, mut unreadable, mut first) = (0_u64, 0_u64, None);
        read::read(self.plan, file, self.path, |row| {
            rows += 1;
            if !(rows - 1).is_multiple_of(self.plan.keep_one_in as u64) {
                return Ok(());
            }
            match self.candidate(&row)? {
                Ok(candidate) => candidates.push(candidate),
                Err(fault) => {
                    let reason = match fault {
                        Fault::Poor(reason) => reason,
                        Fault::Unreadable(e) => {
                            unreadable += 1;
                            first.get_or_insert_with(|| {
                                self.wrong(&row, format!("record {:?}: {e}", row.name))
                            });
                            "not of the alphabet"
                        }
                    };
                    *left_out.entry(reason.to_owned()).or_default() += 1;
                }
            }
            Ok(())
        })?;
        // A few broken records are left out; a file of another alphabet is a mistake.
        match first {
            Some(error) if 2 * unreadable > rows / self.plan.keep_one_in as u64 => Err(error),
            _ => Ok(candidates),
        }
    }

    fn candidate(&self, row: &Row) -> Result<Result<Candidate, Fault>> {
        if row.target.is_empty() {
            if self.plan.target.optional {
                return Ok(Err(Fault::Poor("no target")));
            }
            let reason = format!(
                "record {:?} has no {}, expected a target; give it one, or set data.target.optional",
                row.name, self.plan.target.field
            );
            return Err(self.wrong(row, reason));
        }
        let said = row.split.as_deref().map(|text| {
            Part::parse(text)
                .ok_or_else(|| self.wrong(row, format!("got split {text:?}, expected train, val or test")))
        });
        let (sequence, length, changed) = match &self.wild_type {
            Some(wild_type) => {
                let (sequence, offset) = self.mutated(row, wild_type)?;
                (sequence, wild_type.len(), Some(offset))
            }
            None => match self.reader.read(&row.sequence) {
                Ok((sequence, length)) => (sequence, length, None),
                Err(fault) => return Ok(Err(fault)),
            },
        };
        if let Err(fault) = self.reader.check(&self.plan.filter, &sequence, length) {
            return Ok(Err(fault));
        }
        let group = match (self.plan.split.by, changed) {
            (SplitBy::Scaffold, _) => {
                // A molecule too large for one writing is a group of its own.
                let molecule = Molecule::parse(&sequence).ok();
                Some(molecule.as_ref().and_then(scaffold).unwrap_or_else(|| sequence.clone()))
            }
            (_, Some(offset)) => Some((offset + 1).to_string()),
            _ => row.group.clone(),
        };
        let target = Target::Value(0.0);
        let record =
            SequenceRecord { name: row.name.clone(), sequence, target, group, changed, split: Split::Train };
        Ok(Ok(Candidate { record, label: row.target.clone(), said: said.transpose()? }))
    }

    /// The wild type with the substitution that stands in the place of a sequence.
    fn mutated(&self, row: &Row, wild_type: &str) -> Result<(String, usize)> {
        let text = row.sequence.as_str();
        let bad = || {
            let expected = "expected a substitution of the wild type, such as H24C, positions from 1";
            self.wrong(row, format!("record {:?}: got {text:.12?}, {expected}", row.name))
        };
        let letters = text.as_bytes();
        let (&from, rest) = letters.split_first().ok_or_else(bad)?;
        let (&to, position) = rest.split_last().ok_or_else(bad)?;
        let position: usize =
            std::str::from_utf8(position).ok().and_then(|p| p.parse().ok()).ok_or_else(bad)?;
        let offset = position.checked_sub(1).ok_or_else(bad)?;
        if wild_type.as_bytes().get(offset) != Some(&from) || !to.is_ascii() {
            return Err(bad());
        }
        let mut sequence = wild_type.to_owned();
        sequence.replace_range(offset..=offset, char::from(to).encode_utf8(&mut [0; 4]));
        Ok((self.reader.read(&sequence).map_err(|_| bad())?.0, offset))
    }
}

fn target(plan: &SetPlan, classes: &[String], candidate: &Candidate) -> Result<Target> {
    let wrong = |expected: String| Error::Data {
        what: format!("record {:?}", candidate.record.name),
        got: format!("{} {:.40?}", plan.target.field, candidate.label),
        expected,
    };
    match plan.target.kind {
        TargetKind::Class => {
            let index = classes.iter().position(|c| *c == candidate.label);
            let index = index.and_then(|i| u16::try_from(i).ok());
            index
                .map(Target::Class)
                .ok_or_else(|| wrong(format!("one of {:?}", &classes[..classes.len().min(20)])))
        }
        TargetKind::Value => {
            let value: Option<f32> = candidate.label.parse().ok().filter(|v: &f32| v.is_finite());
            value.map(Target::Value).ok_or_else(|| wrong("a finite number".into()))
        }
    }
}

/// Held-out records stay as they came, so that figures on them compare with those of others; what repeats them goes
/// from the rest, and of the rest one copy stays.
fn without_duplicates(
    plan: &SetPlan,
    candidates: Vec<Candidate>,
    left_out: &mut BTreeMap<String, u64>,
) -> Vec<Candidate> {
    let held_out = |c: &Candidate| matches!(c.said, Some(Part::Val | Part::Test));
    let keys: Vec<String> =
        candidates.iter().map(|c| duplicates::key(plan.alphabet, &c.record.sequence)).collect();
    let mut copies: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, key) in keys.iter().enumerate() {
        copies.entry(key).or_default().push(i);
    }
    let mut reasons: Vec<Option<&str>> = vec![None; candidates.len()];
    for all in copies.values().filter(|all| all.len() > 1) {
        let known = all.iter().any(|&i| held_out(&candidates[i]));
        let open: Vec<usize> = all.iter().copied().filter(|&i| !held_out(&candidates[i])).collect();
        let agree = open.iter().all(|&i| candidates[i].record.target == candidates[open[0]].record.target);
        for (n, &i) in open.iter().enumerate() {
            reasons[i] = match (known, agree, n) {
                (true, ..) => Some("duplicate of a held-out record"),
                (false, false, _) => Some("duplicates that disagree"),
                (false, true, 1..) => Some("duplicate"),
                (false, true, 0) => None,
            };
        }
    }
    if let Some(containment) = plan.near_duplicates {
        let mut order: Vec<usize> = (0..candidates.len()).filter(|&i| reasons[i].is_none()).collect();
        // Held-out records first, then the longest, so that the piece goes and the whole stays.
        let size = |i: usize| candidates[i].record.sequence.len();
        order.sort_by_key(|&i| (!held_out(&candidates[i]), std::cmp::Reverse(size(i))));
        let mut index = Index::new(plan.alphabet, containment);
        let mut kept = Vec::new();
        for i in order {
            let near =
                if held_out(&candidates[i]) { None } else { index.find(&candidates[i].record.sequence) };
            match near.map(|(number, _)| held_out(&candidates[kept[number]])) {
                Some(true) => reasons[i] = Some("near duplicate of a held-out record"),
                Some(false) => reasons[i] = Some("near duplicate"),
                None => {
                    index.add(&candidates[i].record.sequence);
                    kept.push(i);
                }
            }
        }
    }
    let mut kept = Vec::new();
    for (candidate, reason) in candidates.into_iter().zip(reasons) {
        match reason {
            Some(reason) => *left_out.entry(reason.to_owned()).or_default() += 1,
            None => kept.push(candidate),
        }
    }
    kept
}

fn with_splits(plan: &SetPlan, candidates: Vec<Candidate>) -> Result<Vec<SequenceRecord>> {
    let rule = &plan.split;
    let mut parts: Vec<Option<Part>> = candidates.iter().map(|c| c.said).collect();
    let texts: Vec<String> =
        candidates.iter().map(|c| format!("{}\t{}", c.record.name, c.record.sequence)).collect();
    let mut draw = |which: &dyn Fn(Option<Part>) -> bool, shares: [f64; 3]| {
        let chosen: Vec<usize> = (0..parts.len()).filter(|&i| which(parts[i])).collect();
        let units: Vec<Unit<'_>> = chosen
            .iter()
            .map(|&i| {
                let record = &candidates[i].record;
                let class = if let Target::Class(class) = record.target { class } else { 0 };
                Unit { text: &texts[i], class, group: record.group.as_deref().unwrap_or(&texts[i]) }
            })
            .collect();
        for (i, part) in chosen.iter().zip(split::draw(&units, rule, shares)) {
            parts[*i] = Some(part);
        }
    };
    if rule.by != SplitBy::Said {
        if rule.validation_from_train > 0.0 {
            let share = rule.validation_from_train;
            draw(&|part| part == Some(Part::Train), [1.0 - share, share, 0.0]);
        }
        draw(&|part| part.is_none(), rule.shares);
    }
    let halves = halves(&candidates, &parts, &texts);
    let finish = |(i, candidate): (usize, Candidate)| {
        let mut record = candidate.record;
        record.split = match parts[i] {
            Some(Part::Train) => Split::Train,
            Some(Part::Test) => Split::Test,
            Some(Part::Val) if rule.halve_validation => halves[i],
            Some(Part::Val) => Split::ValSelect,
            None => {
                return Err(Error::Data {
                    what: format!("record {:?}", record.name),
                    got: "no split".into(),
                    expected: "a split of its file (data.files.split), of a column (data.split.field), or drawn (data.split.by)".into(),
                });
            }
        };
        Ok(record)
    };
    candidates.into_iter().enumerate().map(finish).collect()
}

/// The half of validation that every record would be in: by group, but where a few large groups would leave one half
/// less than a third, by record.
fn halves(candidates: &[Candidate], parts: &[Option<Part>], texts: &[String]) -> Vec<Split> {
    let group = |i: usize| candidates[i].record.group.as_deref().unwrap_or(&texts[i]);
    let by_group: Vec<Split> = (0..candidates.len()).map(|i| validation_half(group(i))).collect();
    let of_val = || (0..parts.len()).filter(|&i| parts[i] == Some(Part::Val));
    let select = of_val().filter(|&i| by_group[i] == Split::ValSelect).count();
    let all = of_val().count();
    if 3 * select.min(all - select) >= all {
        by_group
    } else {
        texts.iter().map(|t| validation_half(t)).collect()
    }
}

/// A set without training records may be evaluated on; one with training records has two classes or more in them.
fn check(set: &SequenceSet) -> Result<()> {
    let wrong = |what: &str, got: String, expected: &str| {
        Err(Error::Data { what: what.into(), got, expected: expected.into() })
    };
    if set.records.is_empty() {
        return wrong(
            "the records",
            format!("none ({:?})", set.left_out),
            "at least one; look at data.filter",
        );
    }
    let train = set.of_split(Split::Train);
    let classes: BTreeSet<u16> = train
        .iter()
        .filter_map(|&i| match set.records[i].target {
            Target::Class(class) => Some(class),
            Target::Value(_) => None,
        })
        .collect();
    if !set.classes.is_empty() && !train.is_empty() && classes.len() < 2 {
        let only = classes.first().map(|&c| &set.classes[usize::from(c)]);
        return wrong("the training records", format!("the class {only:?} alone"), "two classes or more");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// A plan over files with this content, in a folder of their own.
    fn prepared(keys: &str, files: &[(&str, &str)]) -> Result<SequenceSet> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let plan: SetPlan = toml::from_str(&format!("root = \".\"\n{keys}")).unwrap();
        prepare(&plan, folder.path())
    }

    const FASTA: &str = r#"
        alphabet = "dna"
        files = [{ path = "a.fa", split = "train" }, { path = "b.fa", split = "test" }]
        target = { field = "name", until = "_", classes = ["noncoding", "coding"] }
        group = { field = "chr" }
    "#;
    const TRAIN: &str = ">coding_1 chr=4 gene=A\nACGTACCA\nAA\n>noncoding_1 chr=5\nTTTTGCGGCA\n";
    const TEST: &str = ">coding_1 chr=6\nACGTACCATA\n";

    fn left_out(set: &SequenceSet) -> Vec<(&str, u64)> {
        set.left_out.iter().map(|(r, &n)| (r.as_str(), n)).collect()
    }

    #[test]
    fn labelled_fasta_is_read_with_its_label_group_and_split() {
        let set = prepared(FASTA, &[("a.fa", TRAIN), ("b.fa", TEST)]).unwrap();
        let seen: Vec<_> = set
            .records
            .iter()
            .map(|r| (r.name.as_str(), r.sequence.as_str(), r.target, r.group.as_deref().unwrap(), r.split))
            .collect();
        assert_eq!(
            seen,
            [
                ("coding_1", "ACGTACCAAA", Target::Class(1), "4", Split::Train),
                ("noncoding_1", "TTTTGCGGCA", Target::Class(0), "5", Split::Train),
                ("coding_1", "ACGTACCATA", Target::Class(1), "6", Split::Test),
            ]
        );
        assert_eq!(set.sources.len(), 2);
    }

    #[test]
    fn what_repeats_a_held_out_record_leaves_training_and_the_held_out_one_stays() {
        let turned =
            ">coding_9 chr=7\nTATGGTACGT\n>coding_8 chr=7\nGGGGGGGGGG\n>coding_7 chr=8\nCCCCCCCCCC\n";
        let train = format!("{TRAIN}{turned}");
        let set = prepared(FASTA, &[("a.fa", &train), ("b.fa", TEST)]).unwrap();
        assert_eq!(left_out(&set), [("duplicate", 1), ("duplicate of a held-out record", 1)]);
        let names: Vec<&str> = set.records.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["coding_1", "noncoding_1", "coding_8", "coding_1"]);
    }

    #[test]
    fn validation_of_one_chromosome_is_halved_by_record() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut made = |i: usize, group: usize| {
            let bases: String = (0..30).map(|_| char::from(b"ACGT"[rng.random_range(0..4)])).collect();
            format!(">coding_{i} chr={group}\n{bases}\n")
        };
        let keys = FASTA.replace("\"test\"", "\"val\"");
        for groups in [1, 40] {
            let val: String = (0..200).map(|i| made(i, i % groups)).collect();
            let set = prepared(&keys, &[("a.fa", TRAIN), ("b.fa", &val)]).unwrap();
            let (select, fit) = (set.of_split(Split::ValSelect), set.of_split(Split::ValFit));
            assert!(select.len().min(fit.len()) > 66, "{} {}", select.len(), fit.len());
            let groups_of = |half: &[usize]| -> BTreeSet<&str> {
                half.iter().filter_map(|&i| set.records[i].group.as_deref()).collect()
            };
            assert_eq!(groups_of(&select).is_disjoint(&groups_of(&fit)), groups > 1);
        }
    }

    #[test]
    fn duplicates_that_disagree_all_go() {
        let train = format!("{TRAIN}>noncoding_2 chr=4\nACGTACCAAA\n>coding_3 chr=4\nGATTACAGAT\n");
        let set = prepared(FASTA, &[("a.fa", &train), ("b.fa", TEST)]).unwrap();
        assert_eq!(left_out(&set), [("duplicates that disagree", 2)]);
    }

    #[test]
    fn near_duplicates_go_and_the_longest_stays() {
        let long = "ACGGTCATTGCATTACGGACCATGAACGTTGCAGGTCCATACGTTAGC";
        let files = format!(
            ">coding_p chr=1\n{}\n>noncoding_w chr=2\n{long}\n>coding_x chr=3\nTTTTTTTTTTTTTTTTTTTTGCA\n",
            &long[4..40]
        );
        let keys = format!("near_duplicates = 0.8\n{FASTA}");
        let set = prepared(&keys, &[("a.fa", &files), ("b.fa", TEST)]).unwrap();
        assert_eq!(left_out(&set), [("near duplicate", 1)]);
        assert_eq!(set.records[0].name, "noncoding_w");
    }

    const TABLE: &str = r#"
        alphabet = "smiles"
        files = [{ path = "t.csv" }]
        sequence = "smiles"
        name = "id"
        target = { field = "y" }
    "#;

    #[test]
    fn a_column_gives_the_split_and_scaffolds_stay_whole() {
        let table =
            "\u{feff}id,smiles,y,Model\na,c1ccccc1C,1,Train\nb,c1ccccc1CC,0,Train\nc,C1CCCCC1,1,Test\n";
        let said = format!("{TABLE}\nsplit = {{ field = {{ field = \"Model\" }} }}");
        let set = prepared(&said, &[("t.csv", table)]).unwrap();
        assert_eq!(set.classes, ["0", "1"]);
        assert_eq!(
            set.records.iter().map(|r| r.split).collect::<Vec<_>>(),
            [Split::Train, Split::Train, Split::Test]
        );
        let drawn = format!("{TABLE}\nsplit = {{ by = \"scaffold\", shares = [0.7, 0.0, 0.3] }}");
        let set = prepared(&drawn, &[("t.csv", table)]).unwrap();
        assert_eq!(set.records[0].group, set.records[1].group);
        assert_eq!(
            set.records.iter().map(|r| r.split).collect::<Vec<_>>(),
            [Split::Train, Split::Train, Split::Test]
        );
    }

    #[test]
    fn mutations_of_a_wild_type_are_grouped_by_position() {
        let keys = r#"
            alphabet = "amino_acid"
            files = [{ path = "m.tsv" }]
            sequence = "mutant"
            wild_type = "MKVH"
            target = { field = "fitness", kind = "value" }
            split = { by = "group", shares = [0.5, 0.0, 0.5] }
        "#;
        let table = |m: &str| format!("mutant\tfitness\nK2A\t0.5\n{m}\t-1e-1\nH4*\t0\n");
        let set = prepared(keys, &[("m.tsv", &table("K2C"))]).unwrap();
        let one = &set.records[1];
        assert_eq!((one.sequence.as_str(), one.changed, one.group.as_deref()), ("MCVH", Some(1), Some("2")));
        assert_eq!((one.target, one.split), (Target::Value(-0.1), set.records[0].split));
        for wrong in ["A2C", "K9C", "K0C", "2C", "K2", "K2\u{e9}", "", "KC"] {
            let error = prepared(keys, &[("m.tsv", &table(wrong))]).unwrap_err().to_string();
            assert!(error.contains("line 3") && error.contains("H24C"), "{wrong}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_file_and_place() {
        let fasta =
            |train: &str| prepared(FASTA, &[("a.fa", train), ("b.fa", TEST)]).unwrap_err().to_string();
        for (train, parts) in [
            ("", &["a.fa", "no records"][..]),
            (">coding_1\nACGTACGTAA\n", &["a.fa", "line 1", "chr"]),
            (&format!("{TRAIN}>coding_1 chr=4\nACGT\n"), &["a.fa", "coding_1", "twice"]),
            (">coding_1 chr=1\nMKLPQ\n>noncoding_2 chr=1\nMEEPQ\n", &["a.fa", "line 1", "'L'", "IUPAC"]),
            (">coding_1 chr=1\nACGTACGTAA\n", &["training", "coding", "two classes"]),
            (&format!("{TRAIN}>x_1 chr=4\nACGT\n"), &["x_1", "\"x\"", "noncoding"]),
        ] {
            let error = fasta(train);
            assert!(parts.iter().all(|p| error.contains(p)), "{error}");
        }
        let table = |t: &str| prepared(TABLE, &[("t.csv", t)]).unwrap_err().to_string();
        for (text, parts) in [
            ("", &["t.csv", "smiles"][..]),
            ("id,smiles,y\n", &["t.csv", "no records"]),
            ("id,smiles\na,C\n", &["t.csv", "line 1", "\"y\"", "smiles"]),
            ("id,smiles,y\na,C,1\nb,CC\n", &["t.csv", "line 3", "2 columns"]),
            ("id,smiles,y\na,C,1\nb,CC,\n", &["t.csv", "line 3", "no y"]),
            ("id,smiles,y\na,C,1\na,CC,0\n", &["t.csv", "\"a\"", "twice"]),
            ("id,smiles,y\na,C,1\nb,CC,0\n", &["\"a\"", "no split"]),
            ("id,smiles,y\na,\u{fe},1\nb,CC,0\nc,\u{fe},1\n", &["t.csv", "line 2", "offset 0"]),
        ] {
            let error = table(text);
            assert!(parts.iter().all(|p| error.contains(p)), "{error}");
        }
    }

    #[test]
    fn a_line_without_end_and_a_file_cut_short_end_in_an_error() {
        let long = format!("{TRAIN}>coding_2 chr=1\n{}\n", "A".repeat(20 << 20));
        let error = prepared(FASTA, &[("a.fa", &long), ("b.fa", TEST)]).unwrap_err().to_string();
        assert!(error.contains("a.fa") && error.contains("line 3") && error.contains("bytes"), "{error}");
        let cell = format!("id,smiles,y\na,C,1\nb,\"{}", "C\n".repeat(10 << 20));
        let error = prepared(TABLE, &[("t.csv", &cell)]).unwrap_err().to_string();
        assert!(error.contains("t.csv") && error.contains("bytes"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut gz, TRAIN.repeat(3).as_bytes()).unwrap();
        let gz = gz.finish().unwrap();
        std::fs::write(folder.path().join("a.fa.gz"), &gz[..gz.len() / 2]).unwrap();
        let keys = FASTA.replace("\"a.fa\"", "\"a.fa.gz\"");
        let plan: SetPlan = toml::from_str(&format!("root = \".\"\n{keys}")).unwrap();
        let error = prepare(&plan, folder.path()).unwrap_err().to_string();
        assert!(error.contains("a.fa.gz"), "{error}");
    }
}
