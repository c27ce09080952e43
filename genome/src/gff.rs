//! Transcripts from GFF3.

use std::{collections::HashMap, path::Path};

use noodles::gff::{self, record::attributes::field::Value};

use crate::{CdsPart, Exon, ReadError, Strand, Transcript, text};

/// A transcript with the contig it lies on, in the contig's coordinates.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Contig name.
    pub contig: String,
    /// The transcript.
    pub transcript: Transcript,
    /// Whether the file names it as the one to speak of its gene by (MANE Select, or Ensembl's canonical one).
    pub preferred: bool,
}

/// What a file holds.
#[derive(Clone, Debug)]
pub struct Transcripts {
    /// Every transcript that can be, in the file's order.
    pub placed: Vec<Placed>,
    /// Why the others were left out, one line each.
    pub skipped: Vec<String>,
}

#[derive(Default)]
struct Draft {
    contig: String,
    id: String,
    gene: String,
    preferred: bool,
    strand: Option<Strand>,
    exons: Vec<Exon>,
    cds: Vec<CdsPart>,
}

#[derive(Default)]
struct Drafts {
    all: Vec<Draft>,
    index: HashMap<(String, String, Option<Strand>), usize>,
}

impl Drafts {
    fn of(&mut self, id: &str, (contig, strand): &(String, Option<Strand>)) -> &mut Draft {
        let next = self.all.len();
        let i = *self.index.entry((id.to_owned(), contig.clone(), *strand)).or_insert(next);
        if i == next {
            let draft = Draft {
                id: bare(id).to_owned(),
                contig: contig.clone(),
                strand: *strand,
                ..Draft::default()
            };
            self.all.push(draft);
        }
        &mut self.all[i]
    }
}

/// Reads every transcript (any feature that exons name as their parent), in the file's order. One that contradicts
/// itself is left out and reported. An ID that is used on two contigs or strands (as in the pseudoautosomal regions)
/// names two transcripts.
///
/// # Errors
/// A line that is no GFF3, a CDS without phase, no transcript at all.
pub fn read(path: &Path) -> Result<Transcripts, ReadError> {
    let mut reader = gff::io::Reader::new(text::open(path)?);
    let mut genes: HashMap<String, String> = HashMap::new();
    let mut drafts = Drafts::default();
    let mut line = gff::Line::default();
    let mut number = 0;
    loop {
        number += 1;
        if reader.read_line(&mut line).map_err(|e| text::io_error(path, e))? == 0 {
            break;
        }
        let bad = |reason: String| ReadError::Line { path: path.to_owned(), line: number, reason };
        let Some(record) = line.as_record() else { continue };
        let record = record.map_err(|e| bad(e.to_string()))?;
        let at = |r: std::io::Result<noodles::core::Position>| {
            r.map(|p| usize::from(p) as i64).map_err(|e| bad(e.to_string()))
        };
        let (start, end) = (at(record.start())?, at(record.end())?);
        let attribute = |tag: &str| attribute(&record, tag);
        let place = (record.reference_sequence_name().to_string(), strand(&record));
        match record.ty().to_string().as_str() {
            "exon" | "CDS" => {
                for parent in attribute("Parent") {
                    let draft = drafts.of(&parent, &place);
                    if *record.ty() == *"exon" {
                        draft.exons.push(Exon { start, end });
                    } else {
                        let phase = match record.phase() {
                            Some(Ok(p)) => phase_number(p),
                            _ => {
                                return Err(bad(
                                    "got a CDS without phase, expected 0, 1 or 2 in column 8".into()
                                ));
                            }
                        };
                        draft.cds.push(CdsPart { start, end, phase });
                    }
                }
            }
            "gene" => {
                if let Some(id) = attribute("ID").pop() {
                    let name = attribute("Name").pop().unwrap_or_else(|| bare(&id).to_owned());
                    genes.insert(id, name);
                }
            }
            _ => {
                let (Some(id), Some(parent)) = (attribute("ID").pop(), attribute("Parent").pop()) else {
                    continue;
                };
                let names = attribute("transcript_id").pop().zip(Some(attribute("version").pop()));
                let tags = attribute("tag");
                let tagged = |tag: &str| tags.iter().any(|t| t == tag);
                let draft = drafts.of(&id, &place);
                draft.gene = parent;
                draft.preferred =
                    tagged("MANE_Select") || tagged("MANE Select") || tagged("Ensembl_canonical");
                if let Some((name, version)) = names {
                    draft.id = match version {
                        Some(version) if !name.contains('.') => format!("{name}.{version}"),
                        _ => name,
                    };
                }
            }
        }
    }
    let (mut placed, mut skipped) = (Vec::new(), Vec::new());
    for draft in drafts.all.into_iter().filter(|d| !d.exons.is_empty()) {
        let Draft { contig, id, preferred, .. } = draft;
        let left_out = format!("{}: transcript {id:?} on {contig:?} is left out", path.display());
        let Some(strand) = draft.strand else {
            skipped.push(format!("{left_out}: got no strand, expected + or -"));
            continue;
        };
        let gene = genes.get(&draft.gene).cloned().unwrap_or_else(|| bare(&draft.gene).to_owned());
        match Transcript::new(id, gene, strand, draft.exons, draft.cds) {
            Ok(transcript) => {
                placed.push(Placed { transcript: transcript.on_contig(&contig), contig, preferred })
            }
            Err(error) => skipped.push(format!("{left_out}: {error}")),
        }
    }
    if placed.is_empty() {
        return Err(match skipped.into_iter().next() {
            Some(reason) => ReadError::Beside { path: path.to_owned(), reason },
            None => ReadError::Nothing { path: path.to_owned(), expected: "transcript with exons" },
        });
    }
    Ok(Transcripts { placed, skipped })
}

fn attribute(record: &gff::Record<'_>, tag: &str) -> Vec<String> {
    match record.attributes().get(tag.as_bytes()) {
        Some(Ok(Value::String(one))) => vec![one.to_string()],
        Some(Ok(Value::Array(many))) => many.iter().map(|v| v.to_string()).collect(),
        _ => Vec::new(),
    }
}

fn strand(record: &gff::Record<'_>) -> Option<Strand> {
    match record.strand().ok()? {
        gff::feature::record::Strand::Forward => Some(Strand::Forward),
        gff::feature::record::Strand::Reverse => Some(Strand::Reverse),
        _ => None,
    }
}

fn phase_number(phase: gff::feature::record::Phase) -> u8 {
    match phase {
        gff::feature::record::Phase::Zero => 0,
        gff::feature::record::Phase::One => 1,
        gff::feature::record::Phase::Two => 2,
    }
}

/// `LRG_198t1` of `transcript:LRG_198t1`.
fn bare(id: &str) -> &str {
    id.split_once(':').map_or(id, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn transcripts_come_with_gene_phase_and_order() {
        let text = "##gff-version 3\n\
            chr1\tX\tgene\t1\t90\t.\t-\t.\tID=gene:G;Name=GENE\n\
            chr1\tX\tmRNA\t1\t90\t.\t-\t.\tID=transcript:T1;Parent=gene:G\n\
            chr1\tX\texon\t50\t90\t.\t-\t.\tParent=transcript:T1\n\
            chr1\tX\texon\t1\t20\t.\t-\t.\tParent=transcript:T1\n\
            chr1\tX\tCDS\t50\t60\t.\t-\t0\tParent=transcript:T1\n\
            chr1\tX\tCDS\t10\t20\t.\t-\t1\tParent=transcript:T1\n";
        let mut f = tempfile::NamedTempFile::new().unwrap();
        f.write_all(text.as_bytes()).unwrap();
        let placed = read(f.path()).unwrap().placed;
        let t = &placed[0].transcript;
        assert_eq!(
            (t.id.as_str(), t.gene.as_str(), t.strand, t.span()),
            ("T1", "GENE", Strand::Reverse, (1, 90))
        );
        assert_eq!((t.cds()[0].phase, t.exons().len()), (1, 2));
    }

    #[test]
    fn one_id_on_two_contigs_is_two_transcripts_and_an_impossible_one_is_reported() {
        let text = "##gff-version 3\n\
            chrX\tX\tmRNA\t10\t90\t.\t+\t.\tID=T1;Parent=G\n\
            chrX\tX\texon\t10\t90\t.\t+\t.\tParent=T1\n\
            chrY\tX\tmRNA\t20\t80\t.\t+\t.\tID=T1;Parent=G\n\
            chrY\tX\texon\t20\t80\t.\t+\t.\tParent=T1\n\
            chrM\tX\texon\t1\t9\t.\t+\t.\tParent=T2\n\
            chr1\tX\texon\t1\t50\t.\t+\t.\tParent=bad\n\
            chr1\tX\texon\t40\t90\t.\t+\t.\tParent=bad\n";
        let mut f = tempfile::NamedTempFile::new().unwrap();
        f.write_all(text.as_bytes()).unwrap();
        let Transcripts { placed, skipped } = read(f.path()).unwrap();
        let spans: Vec<_> = placed.iter().map(|p| (p.contig.as_str(), p.transcript.span())).collect();
        assert_eq!(spans, [("chrX", (10, 90)), ("chrY", (20, 80)), ("chrM", (1, 9))]);
        assert!(placed[0].transcript.standard_code() && !placed[2].transcript.standard_code());
        assert!(skipped.len() == 1 && skipped[0].contains("\"bad\"") && skipped[0].contains("overlap"));
    }

    #[test]
    fn a_cds_without_phase_is_refused() {
        let mut f = tempfile::NamedTempFile::new().unwrap();
        f.write_all(b"chr1\tX\tCDS\t10\t20\t.\t-\t.\tParent=t\n").unwrap();
        assert!(matches!(read(f.path()), Err(ReadError::Line { line: 1, .. })));
    }
}
