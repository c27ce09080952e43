//! `locus pack`: build, sign, verify, show.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_engine::{
    Trust, TrustedKey,
    bundle::{Depth, Pack},
};
use locus_firmware_config::pack::{KIND, PACK_FORMAT, PackManifest};
use locus_genome::{assembly, packed};

use super::bundle::version;
use crate::{Result, error::io_at, files};

/// What a pack is made of.
#[derive(Clone, Debug, clap::Args)]
pub struct BuildArgs {
    /// Bases: contigs, or regions of contigs named as `chr17:50182096-50206639`
    #[arg(long)]
    pub fasta: PathBuf,
    /// Transcripts
    #[arg(long)]
    pub gff: PathBuf,
    /// Assembly of both: GRCh38, GRCh37 or another name
    #[arg(long)]
    pub assembly: String,
    /// Name of the pack
    #[arg(long)]
    pub name: String,
    /// Its version
    #[arg(long, default_value = "1.0.0")]
    pub version: String,
    /// Its security counter: a box goes back to none with a lower one
    #[arg(long, default_value_t = 1)]
    pub security_counter: u64,
    /// Date to write into the manifest, YYYY-MM-DD
    #[arg(long)]
    pub date: String,
    /// Pack to write
    #[arg(long)]
    pub out: PathBuf,
}

/// Makes an unsigned pack. Memory grows with the transcripts, not with the bases.
///
/// # Errors
/// Files that cannot be read or do not go together, a disk that fails.
pub fn build(args: &BuildArgs) -> Result<()> {
    let beside = args.out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(beside).map_err(io_at(beside))?;
    let folder = tempfile::tempdir_in(beside).map_err(io_at(beside))?;
    let built = packed::build(&args.fasta, &args.gff, folder.path())?;
    for reason in &built.skipped {
        complain!("{reason}");
    }
    let mut sources = BTreeMap::new();
    for path in [&args.fasta, &args.gff] {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        sources.insert(name, files::sha256(path)?);
    }
    let manifest = PackManifest {
        kind: KIND.into(),
        format: PACK_FORMAT,
        name: args.name.clone(),
        version: version(&args.version)?,
        security_counter: args.security_counter,
        min_edge_version: version("0.1.0")?,
        assembly: assembly::canonical(&args.assembly).into(),
        records: built.records,
        bases: built.bases,
        transcripts: built.transcripts,
        genes: built.genes,
        sources,
        created: args.date.clone(),
        parts: Vec::new(),
    };
    let mut file = files::Growing::create(&args.out)?;
    let digest = locus_export::write_pack(manifest, folder.path(), &mut file)?;
    file.finish()?;
    say!(
        "{}: {} bases in {} records, {} transcripts of {} genes, digest {digest}",
        args.out.display(),
        built.bases,
        built.records,
        built.transcripts,
        built.genes
    );
    opened(&args.out, &Trust::AllowUnsigned, Depth::Tables).map(drop)
}

fn opened(path: &Path, trust: &Trust, depth: Depth) -> Result<Pack> {
    let pack = Pack::open_file(path, trust, depth).map_err(locus_engine::Error::from)?;
    pack.clone().into_reference().map_err(locus_engine::Error::from)?;
    Ok(pack)
}

/// Adds a signature to a pack that is whole, and writes it only where the result opens with this key.
///
/// # Errors
/// A pack that is refused, or no private key.
pub fn sign(key: &Path, input: &Path, out: &Path) -> Result<()> {
    let key = locus_export::read_private(key)?;
    opened(input, &Trust::AllowUnsigned, Depth::Whole)?;
    let own = TrustedKey::from_bytes(key.verifying_key().as_bytes())
        .map_err(|error| locus_engine::Error::from(locus_engine::BundleError::from(error)))?;
    let mut file = files::Growing::create(out)?;
    locus_export::sign_pack(input, &key, &mut file)?;
    file.finish()?;
    opened(out, &Trust::Keys(vec![own]), Depth::Tables).map(drop)
}

/// What a pack is checked with.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    /// Trusted public keys, one of which has to sign
    #[arg(long, required_unless_present = "trust", conflicts_with = "trust")]
    pub key: Vec<PathBuf>,
    /// A trust document, which says how many of which keys have to sign
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// The pack
    pub pack: PathBuf,
}

/// Checks everything that a box checks: signatures, every part, every block of the bases, every transcript.
///
/// # Errors
/// A pack that is refused, with the reason.
pub fn verify(args: &VerifyArgs) -> Result<()> {
    let trust = match &args.trust {
        Some(document) => Trust::Policy(Arc::new(super::trust::policy(document)?)),
        None => Trust::Keys(args.key.iter().map(|key| super::trust::public_key(key)).collect::<Result<_>>()?),
    };
    let pack = opened(&args.pack, &trust, Depth::Whole)?;
    let manifest = pack.manifest();
    say!("{} {}: every part and the signature are good", manifest.name, manifest.version);
    Ok(())
}

/// Prints the manifest, as JSON or in words.
///
/// # Errors
/// A pack that is refused.
pub fn show(path: &Path, json: bool) -> Result<()> {
    let pack =
        Pack::open_file(path, &Trust::AllowUnsigned, Depth::Tables).map_err(locus_engine::Error::from)?;
    let m = pack.manifest();
    if json {
        let bytes = m.to_json().map_err(locus_export::ExportError::from)?;
        say!("{}", String::from_utf8_lossy(&bytes).trim_end());
        return Ok(());
    }
    let signatures = match pack.claimed_signers() {
        [] => "not signed".to_owned(),
        claimed => format!("claimed signatures by {}, not checked", claimed.join(", ")),
    };
    say!("{} {} on {} ({signatures})", m.name, m.version, m.assembly);
    say!("digest {}", pack.digest());
    say!("{} bases in {} records, {} transcripts of {} genes", m.bases, m.records, m.transcripts, m.genes);
    for part in &m.parts {
        say!("{:>12} {} {}", part.size, part.sha256, part.name);
    }
    Ok(())
}
