//! `locus interchange`: Hugging Face folders, in and out.

use std::path::PathBuf;

use crate::{
    Result,
    interchange::{self, Transfer},
};

/// A folder to read and one to write.
#[derive(Clone, Debug, clap::Args)]
pub struct InterchangeArgs {
    /// Folder to read
    #[arg(long)]
    pub from: PathBuf,
    /// Folder to write
    #[arg(long)]
    pub out: PathBuf,
}

fn say(args: &InterchangeArgs, transfer: &Transfer) {
    let (c, t) = (&transfer.config, &transfer.tokenizer);
    say!(
        "{}: {} layers of {}, {} heads, {} words of {}, norms {} each sub-layer",
        args.out.display(),
        c.num_hidden_layers,
        c.hidden_size,
        c.num_attention_heads,
        c.vocab_size,
        t.alphabet().as_str(),
        if c.norm_position == "pre" { "before" } else { "after" },
    );
    if !transfer.tensors.keys().any(|n| n.starts_with("cls.")) {
        say!("no masked-token head: it would start anew");
    }
    if !transfer.left_out.is_empty() {
        say!("left out: {}", transfer.left_out.join(", "));
    }
}

/// Makes a checkpoint folder of a Hugging Face folder.
///
/// # Errors
/// As [`interchange::import`].
pub fn import(args: &InterchangeArgs) -> Result<()> {
    say(args, &interchange::import(&args.from, &args.out)?);
    Ok(())
}

/// Makes a Hugging Face folder of a checkpoint folder.
///
/// # Errors
/// As [`interchange::export`].
pub fn export(args: &InterchangeArgs) -> Result<()> {
    say(args, &interchange::export(&args.from, &args.out)?);
    Ok(())
}
