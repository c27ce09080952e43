//! The command line of `locus`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use locus_host::{commands, device::DeviceChoice};

#[derive(Parser)]
#[command(name = "locus", version, about = "Train, evaluate, shrink and ship DNA language models")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args)]
pub(crate) struct Training {
    /// What to train, and how
    pub(crate) recipe: PathBuf,
    /// Output folder [default: runs/NAME]
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct On {
    /// Where to train: auto, cpu, cuda or cuda:N; auto is a GPU where this program has CUDA and one answers
    #[arg(long, default_value = "auto")]
    pub(crate) device: DeviceChoice,
}

#[derive(Args)]
pub(crate) struct Proof {
    /// The ONNX Runtime library [default: LOCUS_ONNXRUNTIME, else the project's .locus folder]
    #[arg(long)]
    pub(crate) onnxruntime: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Encode every record once
    Prepare(Training),
    /// Train on masked tokens
    Pretrain {
        #[command(flatten)]
        training: Training,
        #[command(flatten)]
        on: On,
    },
    /// Train on labelled variants
    Finetune {
        #[command(flatten)]
        training: Training,
        #[command(flatten)]
        on: On,
    },
    /// Take heads and columns out of the fine-tuned model, as `[prune]` says
    Prune {
        #[command(flatten)]
        training: Training,
        #[command(flatten)]
        proof: Proof,
    },
    /// Fit probability, bands and activation ranges
    Calibrate(Training),
    /// Write ONNX in FP32 and INT8, proved against the checkpoint
    Export {
        #[command(flatten)]
        training: Training,
        #[command(flatten)]
        proof: Proof,
    },
    /// Make, sign and look at bundles
    #[command(subcommand)]
    Bundle(Bundle),
    /// Make, sign and look at reference packs
    #[command(subcommand)]
    Pack(Pack),
    /// Say which keys may sign models, and how many have to
    #[command(subcommand)]
    Trust(Trust),
    /// Make an Ed25519 key pair: OUT.key and OUT.pub
    Keygen {
        /// Path without ending
        #[arg(long)]
        out: PathBuf,
    },
    /// Figures on labelled variants
    Evaluate(commands::evaluate::EvaluateArgs),
    /// An evaluation as an HTML page and as a model card
    Report(commands::report::ReportArgs),
    /// How near two protein structures are: RMSD, TM-score, GDT
    Structure(commands::structure::StructureArgs),
    /// Identity of two sequences, aligned from end to end
    Align(commands::align::AlignArgs),
    /// Why variants are answered as they are
    #[command(subcommand)]
    Explain(Explain),
    /// Hugging Face folders, in and out
    #[command(subcommand)]
    Interchange(Interchange),
    /// Score every allele of a VCF
    Score(commands::score::ScoreArgs),
    /// The whole training chain, from where it stopped, to an unsigned bundle OUT/NAME.locus
    Run {
        #[command(flatten)]
        training: Training,
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        proof: Proof,
        /// Date to write into the manifest, YYYY-MM-DD [default: today]
        #[arg(long)]
        date: Option<String>,
        /// Commit of the code to write into the manifest
        #[arg(long)]
        source: Option<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum Pack {
    /// Make an unsigned pack of FASTA and GFF3, plain, gzip or bgzip
    Build(commands::pack::BuildArgs),
    /// Add a signature
    Sign {
        /// Private key
        #[arg(long)]
        key: PathBuf,
        /// Pack to sign
        input: PathBuf,
        /// Signed pack to write
        out: PathBuf,
    },
    /// Check everything that a box checks before it reads the pack
    Verify(commands::pack::VerifyArgs),
    /// Print what the pack says of itself
    Show {
        /// The manifest's own JSON
        #[arg(long)]
        json: bool,
        /// The pack
        pack: PathBuf,
    },
}

#[derive(Subcommand)]
pub(crate) enum Bundle {
    /// Put an output folder's model into an unsigned bundle
    Create {
        #[command(flatten)]
        training: Training,
        /// Bundle to write
        #[arg(long)]
        bundle: PathBuf,
        /// Date to write into the manifest, YYYY-MM-DD
        #[arg(long)]
        date: String,
        /// Commit of the code to write into the manifest
        #[arg(long)]
        source: Option<String>,
    },
    /// Add a signature
    Sign {
        /// Private key
        #[arg(long)]
        key: PathBuf,
        /// Bundle to sign
        input: PathBuf,
        /// Signed bundle to write
        out: PathBuf,
    },
    /// Measure from which probabilities on missense variants are evidence, and write the bundle with these steps
    Evidence(commands::evidence::EvidenceArgs),
    /// Write what a box that has the old bundle still needs of the new one
    Delta {
        /// Bundle that is in a slot of the box
        old: PathBuf,
        /// Signed bundle to flash
        new: PathBuf,
        /// Delta to write
        #[arg(long)]
        out: PathBuf,
    },
    /// Print the manifest
    Inspect {
        /// The manifest's own JSON
        #[arg(long)]
        json: bool,
        /// The bundle
        bundle: PathBuf,
    },
    /// Check everything that a box checks before it runs the model
    Verify(commands::bundle::VerifyArgs),
}

#[derive(Subcommand)]
pub(crate) enum Trust {
    /// Write a trust document, the first or the next one
    Create(commands::trust::CreateArgs),
    /// Add the signature of a root key
    Sign {
        /// Private key
        #[arg(long)]
        key: PathBuf,
        /// Trust document to sign
        input: PathBuf,
        /// Signed trust document to write
        out: PathBuf,
    },
    /// Print a trust document and who signed it
    Show {
        /// The trust document
        file: PathBuf,
    },
}

#[derive(Subcommand)]
pub(crate) enum Interchange {
    /// Make a checkpoint folder of a Hugging Face folder (BERT over k-mers, residues or SMILES)
    Import(commands::interchange::InterchangeArgs),
    /// Make a Hugging Face folder of a checkpoint folder, such as runs/NAME/best
    Export(commands::interchange::InterchangeArgs),
}

#[derive(Subcommand)]
pub(crate) enum Explain {
    /// Picture, attributions, attention and all other variants of the window, for each variant
    Variants(commands::explain::VariantArgs),
    /// How complete and how faithful the attributions are, over many variants
    Test(commands::explain::TestArgs),
}
