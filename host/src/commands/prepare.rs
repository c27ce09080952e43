//! `locus prepare`: encodes every record once.

use std::collections::BTreeMap;

use locus_genome::KmerTokenizer;

use super::{Link, Stage};
use crate::{
    Result,
    data::{
        Split, page,
        prepare::{Options, Sources, prepare},
        variants,
    },
    panel,
    progress::Progress,
};

/// Runs the stage, or says that it is done.
///
/// # Errors
/// A source file that cannot be read, or no usable record.
pub fn run(stage: &Stage) -> Result<()> {
    let recipe = &stage.recipe;
    if let Some(genes) = recipe.data.generated_genes {
        panel::generate(genes, recipe.seed).write(&stage.sources())?;
    }
    let made_from = stage.made_from(Link::Prepare)?;
    if stage.done_before(Link::Prepare)? {
        return Ok(());
    }
    let files = stage.sources();
    let options = Options {
        tokenizer: KmerTokenizer::new(recipe.window.k, recipe.window.stride)?,
        window_kmers: recipe.window.kmers,
        crop_flank: recipe.window.crop_flank.into(),
        keep_one_in: recipe.data.keep_one_in,
        seed: recipe.seed,
    };
    let mut progress = None;
    let sources = Sources { fasta: &files.fasta, gff3: &files.gff3, vcf: &files.vcf };
    let dataset = prepare(sources, options, |n, total| {
        if n.is_multiple_of(2_000) || n == total {
            progress.get_or_insert_with(|| Progress::new("prepare", 0, total)).step(n, 0, "records");
        }
    })?;
    dataset.write(&stage.run.at("dataset.bin"))?;
    variants::describe(&recipe.name, &dataset, |report, items| page::write(&stage.run, report, items))?;
    let mut figures = BTreeMap::new();
    for split in [Split::Train, Split::ValSelect, Split::ValFit, Split::Test] {
        figures.insert(split.as_str().to_owned(), dataset.of_split(split).len() as f64);
    }
    figures.insert("pretraining_regions".into(), dataset.pretraining_regions.len() as f64);
    complain!("prepare: {figures:?}, left out {:?}", dataset.left_out);
    stage.finish(Link::Prepare, made_from, figures)
}
