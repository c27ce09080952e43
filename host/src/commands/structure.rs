//! `locus structure`: how near two protein structures are.

use std::path::PathBuf;

use serde_json::json;

use crate::{
    Error, Result,
    align::{Scoring, align},
    structure::{Chain, MAX_RESIDUES, Point, similarity, structural_alignment},
};

/// How residues are paired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Pairing {
    /// By residue number.
    #[default]
    Number,
    /// By aligning the sequences.
    Sequence,
    /// By shape alone, as TM-align does.
    Shape,
}

/// What is compared.
#[derive(Clone, Debug, clap::Args)]
pub struct StructureArgs {
    /// Model: PDB
    pub model: PathBuf,
    /// Reference: PDB; scores are divided by its length
    pub reference: PathBuf,
    /// How residues are paired
    #[arg(long, value_enum, default_value_t)]
    pub pairs: Pairing,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Compares the first chains of the first models and prints.
///
/// # Errors
/// A file that is no structure, or two without a residue in common.
pub fn run(args: &StructureArgs) -> Result<()> {
    let (model, reference) = (Chain::read(&args.model)?, Chain::read(&args.reference)?);
    let pairs = match args.pairs {
        Pairing::Number => by_number(&model, &reference),
        Pairing::Sequence => by_sequence(&model, &reference),
        Pairing::Shape => return by_shape(args, &model, &reference),
    };
    let found = similarity(&pairs, reference.residues.len()).ok_or_else(|| Error::Data {
        what: format!("{} and {}", args.model.display(), args.reference.display()),
        got: "no residue number in common".into(),
        expected: "two structures of one protein, or --pairs sequence or shape".into(),
    })?;
    if args.json {
        say!("{}", json!(found));
        return Ok(());
    }
    say!("{} of {} residues paired", found.pairs, found.length);
    say!("RMSD     {:.3} Å", found.rmsd);
    say!("TM-score {:.4} (d0 {:.2} Å)", found.tm_score, found.d0);
    say!("GDT-TS   {:.4}", found.gdt_ts);
    say!("GDT-HA   {:.4}", found.gdt_ha);
    Ok(())
}

fn by_shape(args: &StructureArgs, model: &Chain, reference: &Chain) -> Result<()> {
    let points = |c: &Chain| c.residues.iter().map(|r| r.at).collect::<Vec<Point>>();
    let (x, y) = (points(model), points(reference));
    let found =
        structural_alignment((&x, &model.sequence()), (&y, &reference.sequence())).ok_or_else(|| {
            Error::Data {
                what: format!("{} and {}", args.model.display(), args.reference.display()),
                got: format!("{} and {} residues", x.len(), y.len()),
                expected: format!("5 to {MAX_RESIDUES} in each"),
            }
        })?;
    if args.json {
        say!("{}", json!(found));
        return Ok(());
    }
    say!("{} residues aligned, {:.1} % the same", found.pairs, 100.0 * found.identity);
    say!("RMSD     {:.3} Å", found.rmsd);
    say!("TM-score {:.5} by the length of the model ({})", found.tm_score_first, x.len());
    say!("TM-score {:.5} by the length of the reference ({})", found.tm_score_second, y.len());
    Ok(())
}

/// Alpha carbons of residues with the same number and insertion code.
fn by_number(model: &Chain, reference: &Chain) -> Vec<(Point, Point)> {
    let pair = |m: &crate::structure::Residue| {
        let same = reference.residues.iter().find(|r| r.number == m.number && r.insertion == m.insertion)?;
        Some((m.at, same.at))
    };
    model.residues.iter().filter_map(pair).collect()
}

fn by_sequence(model: &Chain, reference: &Chain) -> Vec<(Point, Point)> {
    let aligned = align(&model.sequence(), &reference.sequence(), &Scoring::PROTEIN);
    aligned.pairs.iter().map(|&(m, r)| (model.residues[m].at, reference.residues[r].at)).collect()
}
