//! `locus score --fasta` with a sequence bundle: one row a record, never a gap, never a part of a sequence.

use locus_engine::{SequenceScore, SequenceScorer};
use locus_firmware_config::manifest::Task;
use locus_genome::EncodedSequence;

use super::fasta::{MAX_LETTERS, Record, records};
use crate::{
    Result,
    commands::score::{ScoreArgs, cell},
    files::Growing,
};

/// Records that are scored together.
const CHUNK: usize = 256;
/// Letters of them: tokens take 16 times the memory of letters.
const HELD: usize = 1 << 21;
/// Header of the table of a classifier: the most probable label and its probability.
pub const HEADER: &str = "id\tlabel\tprobability\tstatus";
/// Header of the table of a regression.
pub const VALUE_HEADER: &str = "id\tvalue\tstatus";

/// Scores every record of a FASTA file into a table.
///
/// # Errors
/// A file that cannot be read to its end (no table is left behind), or no engine.
pub fn run(args: &ScoreArgs, mut scorer: SequenceScorer) -> Result<()> {
    let regression = scorer.manifest().task == Task::SequenceRegression;
    let mut table = Growing::create(&args.out)?;
    table.write(format!("{}\n", if regression { VALUE_HEADER } else { HEADER }).as_bytes())?;
    let (mut scored, mut total) = (0_u64, 0_u64);
    let (mut chunk, mut held) = (Vec::with_capacity(CHUNK), 0);
    let mut flush = |chunk: &mut Vec<Record>| -> Result<()> {
        let encoded: Vec<Result<EncodedSequence, String>> =
            chunk.iter().map(|record| encode(&scorer, record)).collect();
        let readable: Vec<EncodedSequence> =
            encoded.iter().filter_map(|e| e.as_ref().ok().cloned()).collect();
        let mut scores = scorer.score(&readable)?.into_iter();
        for (record, encoded) in chunk.iter().zip(&encoded) {
            let score = match encoded {
                Ok(_) => scores.next().unwrap_or_default(),
                Err(reason) => SequenceScore { abstained: Some(reason.clone()), ..SequenceScore::default() },
            };
            total += 1;
            scored += u64::from(score.abstained.is_none());
            table.write(line(&record.name, &score, &scorer.manifest().labels, regression).as_bytes())?;
        }
        chunk.clear();
        Ok(())
    };
    records(&args.fasta, |record| {
        held += record.letters.len();
        chunk.push(record);
        if chunk.len() == CHUNK || held > HELD {
            held = 0;
            return flush(&mut chunk);
        }
        Ok(())
    })?;
    flush(&mut chunk)?;
    table.finish()?;
    complain!("{scored} of {total} sequences scored");
    Ok(())
}

/// The row of a record, or why there is none.
fn encode(scorer: &SequenceScorer, record: &Record) -> Result<EncodedSequence, String> {
    if record.count > record.letters.len() as u64 {
        return Err(format!("out of scope: {} letters, expected at most {MAX_LETTERS}", record.count));
    }
    let letters = String::from_utf8_lossy(&record.letters);
    scorer.encoder().encode(&letters).map_err(|e| format!("unreadable: {e}"))
}

fn line(id: &str, score: &SequenceScore, labels: &[String], regression: bool) -> String {
    let status = match &score.abstained {
        None => "ok".to_owned(),
        Some(reason) if reason.starts_with("unreadable") => cell(reason),
        Some(reason) => cell(&format!("abstained: {reason}")),
    };
    let id = cell(id);
    if regression {
        let value = score.value.map_or_else(|| ".".into(), |v| format!("{v:.6}"));
        return format!("{id}\t{value}\t{status}\n");
    }
    let (label, probability) = score.best().map_or_else(
        || (".".to_owned(), ".".to_owned()),
        |(at, p)| (labels.get(at).map_or_else(|| ".".into(), |l| cell(l)), format!("{p:.6}")),
    );
    format!("{id}\t{label}\t{probability}\t{status}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abstention_has_its_reason_and_no_number() {
        let labels = ["noncoding".to_owned(), "coding".to_owned()];
        let sure = SequenceScore { probabilities: vec![0.1, 0.9], ..SequenceScore::default() };
        assert_eq!(line("a b", &sure, &labels, false), "a b\tcoding\t0.900000\tok\n");
        let none = SequenceScore { abstained: Some("too\tlong".into()), ..SequenceScore::default() };
        assert_eq!(line("x", &none, &labels, false), "x\t.\t.\tabstained: too long\n");
        let value = SequenceScore { value: Some(-1.5), ..SequenceScore::default() };
        assert_eq!(line("x", &value, &labels[..1], true), "x\t-1.500000\tok\n");
    }
}
