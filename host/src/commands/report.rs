//! `locus report`: what people read of an evaluation, as one HTML file and as a model card.

use std::path::{Path, PathBuf};

use locus_engine::{Bundle, Trust};

use crate::{
    Result,
    error::io_at,
    evaluate::{Learning, Reads, card, page},
    files,
    stage::Run,
};

/// The evaluation that ends a chain.
pub(super) const REPORT: &str = "report.json";

/// What is read and written.
#[derive(Clone, Debug, clap::Args)]
pub struct ReportArgs {
    /// Report of `locus evaluate --json`
    #[arg(long)]
    pub json: PathBuf,
    /// Page to write
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Output folder of the training, for its learning curves
    #[arg(long)]
    pub run: Option<PathBuf>,
    /// Model card to write, in Markdown
    #[arg(long)]
    pub card: Option<PathBuf>,
    /// The model's bundle, for the card
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// Looks at test splits, for the card [default: test-reads.jsonl beside the bundle]
    #[arg(long)]
    pub reads: Option<PathBuf>,
}

impl ReportArgs {
    /// The page (`report.html`) and the card (`card.md`) of the evaluation in `report.json` that ends a chain.
    pub(super) fn of_run(run: &Run, bundle: &Path) -> Self {
        Self {
            json: run.at(REPORT),
            html: Some(run.at("report.html")),
            run: Some(run.at("")),
            card: Some(run.at("card.md")),
            bundle: Some(bundle.to_owned()),
            reads: None,
        }
    }
}

/// Writes what was asked for.
///
/// # Errors
/// A file that cannot be read or written, or JSON that is no report.
pub fn run(args: &ReportArgs) -> Result<()> {
    let json = std::fs::read_to_string(&args.json).map_err(io_at(&args.json))?;
    if let Some(path) = &args.html {
        let learning = args.run.as_deref().map(Learning::read).transpose()?.unwrap_or_default();
        files::write_atomically(path, page(&json, &learning)?.as_bytes())?;
    }
    if let Some(path) = &args.card {
        let open =
            |path: &PathBuf| Bundle::open(path, &Trust::AllowUnsigned).map_err(locus_engine::Error::from);
        let bundle = args.bundle.as_ref().map(open).transpose()?;
        let beside = args.bundle.as_ref().map(|b| b.with_file_name(super::evaluate::READS));
        let reads = args.reads.clone().or(beside).map_or_else(|| Ok(Vec::new()), |p| Reads::at(&p).all())?;
        let text = card(&json, bundle.as_ref().map(Bundle::manifest), &reads)?;
        files::write_atomically(path, text.as_bytes())?;
    }
    Ok(())
}
