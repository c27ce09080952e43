//! `locus prepare` of sequences.

use std::collections::BTreeMap;

use super::{Link, SequenceStage};
use crate::{
    Error, Result,
    data::{Split, page},
    sequence::{self, SequenceSet, report},
};

/// Runs the stage, or says that it is done.
///
/// # Errors
/// A source file that cannot be read, or no usable record.
pub fn run(stage: &SequenceStage) -> Result<()> {
    let made_from = stage.made_from(Link::Prepare)?;
    if stage.done_before(Link::Prepare)? {
        return Ok(());
    }
    let mut set = sequence::prepare(&stage.recipe.data, &stage.recipe.data_root())?;
    leave_out_long(stage, &mut set)?;
    set.store(&stage.run.at("dataset.bin"))?;
    let (name, near) = (&stage.recipe.name, stage.recipe.data.near_duplicates);
    report::describe(name, &set, near, |report, items| page::write(&stage.run, report, items))?;
    let mut figures = BTreeMap::new();
    for split in [Split::Train, Split::ValSelect, Split::ValFit, Split::Test] {
        figures.insert(split.as_str().to_owned(), set.of_split(split).len() as f64);
    }
    complain!("prepare: {figures:?}, left out {:?}", set.left_out);
    stage.finish(Link::Prepare, made_from, figures)
}

/// A record that no bucket takes is left out and counted: cut, it would have another record's target.
fn leave_out_long(stage: &SequenceStage, set: &mut SequenceSet) -> Result<()> {
    let (encoder, longest) = (stage.recipe.encoder()?, stage.recipe.max_tokens());
    let before = set.records.len();
    set.retain(|sequence| Ok(encoder.encode(sequence)?.ids.len() <= longest))?;
    let left_out = before - set.records.len();
    if left_out > 0 {
        *set.left_out.entry("longer than the longest bucket".into()).or_default() += left_out as u64;
    }
    if set.of_split(Split::Train).is_empty() || set.of_split(Split::ValSelect).is_empty() {
        return Err(Error::Data {
            what: "records that fit the longest bucket".into(),
            got: format!("{} of {before}, none in train or in validation", set.records.len()),
            expected: "records in both".into(),
        });
    }
    Ok(())
}
