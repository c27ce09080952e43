//! `locusctl annotate`: a VCF with what the box makes of each allele; sent and written part by part.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufWriter, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use locus_firmware_config::message::Fault;
use locus_genome::text;

use super::{
    place::{AwayArgs, Place},
    reach::{ReachArgs, Transport, connect},
};
use crate::client::Terminal;

/// Most records, and most bytes, of a part.
const RECORDS: usize = 256;
const PART_BYTES: usize = 512 << 10;
/// Longest time of a part: the box waits for places by itself.
const PATIENCE: Duration = Duration::from_secs(600);
/// Time to reach the box.
const CONNECT: Duration = Duration::from_secs(10);

/// What to annotate.
#[derive(Clone, Debug, clap::Args)]
pub struct AnnotateArgs {
    /// A VCF file, plain or compressed
    pub vcf: PathBuf,
    /// The annotated file, plain; written under this name once it is whole
    #[arg(long)]
    pub out: PathBuf,
    /// Assembly that the variants are on; the box refuses another one than its own
    #[arg(long)]
    pub assembly: Option<String>,
    /// Model that must answer, by name, name@version or digest
    #[arg(long)]
    pub model: Option<String>,
    /// Who asks
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Where
    #[command(flatten)]
    pub away: AwayArgs,
}

/// Annotates a file over HTTPS.
///
/// # Errors
/// The file cannot be read or written, or the box refuses it as a whole. What is wrong with a line is told on that line.
pub fn run(place: &Place, args: &AnnotateArgs) -> Result<ExitCode> {
    place.possible(&args.reach, Transport::Http, None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let terminal = runtime.block_on(connect(place, &args.reach, Transport::Http, None, CONNECT))?;
    let Terminal::Http(terminal) = terminal else { bail!("expected HTTPS") };
    let named = [("assembly", &args.assembly), ("model", &args.model)];
    let query: Vec<String> =
        named.iter().filter_map(|(key, name)| Some(format!("{key}={}", name.as_ref()?))).collect();
    let path = format!("/v1/annotate?{}", query.join("&"));
    let part_path = args.out.with_added_extension("part");
    let file = File::create(&part_path).with_context(|| format!("cannot write {}", part_path.display()))?;
    let mut out = BufWriter::new(file);
    let (mut header, mut records, mut count, mut done) = (Vec::new(), Vec::new(), 0, 0_usize);
    let mut send = |header: &[u8], records: &[u8], first: bool| -> Result<usize> {
        let (status, body) = terminal.post_to(&path, &[], &[header, records].concat(), PATIENCE)?;
        if status != 200 {
            let fault: Option<Fault> = serde_json::from_slice(&body).ok();
            bail!("{}", fault.map_or_else(|| format!("the box answered {status}"), |fault| fault.message));
        }
        let mut written = 0;
        for line in body.split_inclusive(|byte| *byte == b'\n') {
            let head = line.starts_with(b"#");
            written += usize::from(!head);
            if first || !head {
                out.write_all(line)?;
            }
        }
        Ok(written)
    };
    let mut input = text::open(&args.vcf)?;
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).with_context(|| args.vcf.display().to_string())? == 0 {
            break;
        }
        while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            line.pop();
        }
        if line.starts_with(b"#") && count == 0 && done == 0 {
            header.extend_from_slice(&line);
            header.push(b'\n');
            continue;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        records.extend_from_slice(&line);
        records.push(b'\n');
        count += 1;
        if count == RECORDS || records.len() > PART_BYTES {
            done += send(&header, &records, done == 0)?;
            complain!("{done} records");
            (records, count) = (Vec::new(), 0);
        }
    }
    if count > 0 || done == 0 {
        done += send(&header, &records, done == 0)?;
    }
    out.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    fs::rename(&part_path, &args.out).with_context(|| format!("cannot write {}", args.out.display()))?;
    say!("{done} records in {}", args.out.display());
    Ok(ExitCode::SUCCESS)
}
