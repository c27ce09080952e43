//! Files → [`SequenceSet`]: read, filtered, freed of duplicates, split.

mod copies;
mod intake;

use std::{collections::BTreeSet, path::Path};

use self::{
    copies::without_duplicates,
    intake::{Candidate, Intake},
};
use super::{
    SequenceRecord, SequenceSet, SetPlan, Target,
    plan::{SplitBy, TargetKind},
    split::{self, Part, Unit},
};
use crate::{
    Error, Result,
    data::{Split, prepare::validation_half},
    files,
};

/// Reads every file of a plan below `root`.
///
/// # Errors
/// A file that cannot be read; a target that is missing or is none of the classes; a split that is none; sequences of
/// another alphabet; no record, or a single class, that training could see.
pub fn prepare(plan: &SetPlan, root: &Path) -> Result<SequenceSet> {
    plan.check()?;
    let mut set = SequenceSet::new(plan.alphabet, plan.target.classes.clone());
    set.wild_type.clone_from(&plan.wild_type);
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
    for (record, sequence) in with_splits(plan, candidates)? {
        set.push(record, sequence);
    }
    check(&set)?;
    Ok(set)
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

fn with_splits(plan: &SetPlan, candidates: Vec<Candidate>) -> Result<Vec<(SequenceRecord, String)>> {
    let rule = &plan.split;
    let mut parts: Vec<Option<Part>> = candidates.iter().map(|c| c.said).collect();
    let texts: Vec<String> =
        candidates.iter().map(|c| format!("{}\t{}", c.record.name, c.sequence)).collect();
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
        Ok((record, candidate.sequence))
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
mod tests;
