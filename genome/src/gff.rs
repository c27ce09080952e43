//! Transcripts from GFF3.

use std::{collections::HashMap, path::Path};

use noodles::gff::{self, record::attributes::field::Value};

use crate::{CdsPart, EncodeError, Exon, ReadError, Strand, Transcript, text};

/// A transcript with the contig it lies on, in the contig's coordinates.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Contig name.
    pub contig: String,
    /// The transcript.
    pub transcript: Transcript,
}

#[derive(Default)]
struct Draft {
    contig: String,
    id: String,
    gene: String,
    strand: Option<Strand>,
    exons: Vec<Exon>,
    cds: Vec<CdsPart>,
}

/// Reads every transcript (any feature that exons name as their parent), in the file's order.
///
/// # Errors
/// A line that is no GFF3, a transcript that contradicts itself, no transcript at all.
pub fn read(path: &Path) -> Result<Vec<Placed>, ReadError> {
    let mut reader = gff::io::Reader::new(text::open(path)?);
    let mut genes: HashMap<String, String> = HashMap::new();
    let mut drafts: Vec<Draft> = Vec::new();
    let mut index: HashMap<String, usize> = HashMap::new();
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
        match record.ty().to_string().as_str() {
            "exon" | "CDS" => {
                for parent in attribute("Parent") {
                    let i = *index.entry(parent.clone()).or_insert_with(|| {
                        drafts.push(Draft { id: bare(&parent).to_owned(), ..Draft::default() });
                        drafts.len() - 1
                    });
                    let draft = &mut drafts[i];
                    if draft.strand.is_none() {
                        draft.contig = record.reference_sequence_name().to_string();
                        draft.strand = strand(&record);
                    }
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
                let i = *index.entry(id.clone()).or_insert_with(|| {
                    drafts.push(Draft::default());
                    drafts.len() - 1
                });
                let draft = &mut drafts[i];
                draft.id = bare(&id).to_owned();
                draft.contig = record.reference_sequence_name().to_string();
                draft.strand = strand(&record);
                draft.gene = parent;
            }
        }
    }
    let mut placed = Vec::new();
    for draft in drafts.into_iter().filter(|d| !d.exons.is_empty()) {
        let id = draft.id;
        let bad = |reason: String| ReadError::Line { path: path.to_owned(), line: number, reason };
        let strand =
            draft.strand.ok_or_else(|| bad(format!("transcript {id:?}: got no strand, expected + or -")))?;
        let gene = genes.get(&draft.gene).cloned().unwrap_or_else(|| bare(&draft.gene).to_owned());
        let transcript = Transcript::new(id.clone(), gene, strand, draft.exons, draft.cds)
            .map_err(|e: EncodeError| bad(format!("transcript {id:?}: {e}")))?;
        placed.push(Placed { contig: draft.contig, transcript });
    }
    if placed.is_empty() {
        return Err(ReadError::Nothing { path: path.to_owned(), expected: "transcript with exons" });
    }
    Ok(placed)
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
        let placed = read(f.path()).unwrap();
        let t = &placed[0].transcript;
        assert_eq!(
            (t.id.as_str(), t.gene.as_str(), t.strand, t.span()),
            ("T1", "GENE", Strand::Reverse, (1, 90))
        );
        assert_eq!((t.cds()[0].phase, t.exons().len()), (1, 2));
    }

    #[test]
    fn a_cds_without_phase_is_refused() {
        let mut f = tempfile::NamedTempFile::new().unwrap();
        f.write_all(b"chr1\tX\tCDS\t10\t20\t.\t-\t.\tParent=t\n").unwrap();
        assert!(matches!(read(f.path()), Err(ReadError::Line { line: 1, .. })));
    }
}
