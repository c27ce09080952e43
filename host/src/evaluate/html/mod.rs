//! The report as one HTML page.

mod learning;
mod sequence;
mod tables;
mod variant;

use std::collections::BTreeMap;

use serde_json::Value;

pub use self::learning::Learning;
pub(super) use self::tables::{figure_table, floor_table, sequence_table, strata_table, strength_table};
use super::SequenceReport;
use crate::{
    Error, Result,
    commands::evaluate::Report,
    report::{Page, Table},
};

/// The page of a report that `locus evaluate` wrote, of whichever kind.
///
/// # Errors
/// JSON that is no report, or a picture that cannot be drawn.
pub fn page(json: &str, learning: &[Learning]) -> Result<String> {
    let page = match AnyReport::parse(json)? {
        AnyReport::Variant(report) => variant::variant(&report, learning),
        AnyReport::Sequence(report) => sequence::sequence(&report, learning),
    };
    Ok(page?.html())
}

/// A report of either kind.
pub(super) enum AnyReport {
    Variant(Box<Report>),
    Sequence(Box<SequenceReport>),
}

impl AnyReport {
    pub(super) fn parse(json: &str) -> Result<Self> {
        let wrong = |e: serde_json::Error| Error::Data {
            what: "the report".into(),
            got: e.to_string(),
            expected: "the JSON that locus evaluate --json writes; run it again".into(),
        };
        let value: Value = serde_json::from_str(json).map_err(wrong)?;
        if value.get("described").is_some() {
            return Ok(Self::Sequence(Box::new(serde_json::from_value(value).map_err(wrong)?)));
        }
        Ok(Self::Variant(Box::new(serde_json::from_value(value).map_err(wrong)?)))
    }
}

fn facts(page: &mut Page, facts: [&String; 5], reads: Option<usize>, intervals: &str) {
    let [model, engine, precision, split, data] = facts;
    let mut all = vec![
        ("Model", model.clone()),
        ("Engine", format!("{engine}, {precision}")),
        ("Split", split.clone()),
        ("Data, SHA-256", data.clone()),
        ("Intervals", intervals.to_owned()),
    ];
    if let Some(reads) = reads {
        all.push(("Looks at this split", format!("{reads}, this one included")));
    }
    page.facts(all);
}

fn left_out(page: &mut Page, left_out: &BTreeMap<String, u64>) {
    if left_out.is_empty() {
        return;
    }
    let mut table = Table::new("Records left out", &["reason", "records"]);
    left_out.iter().for_each(|(reason, n)| table.row([reason.clone(), n.to_string()]));
    page.table(&table);
}

/// A model's name without its digest.
pub(super) fn first_words(model: &str) -> String {
    let words: Vec<&str> = model.split(' ').collect();
    let kept = if words.len() > 2 { words.len() - 1 } else { words.len() };
    words[..kept].join(" ")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Described, Estimate, describe_classes},
        *,
    };

    #[test]
    fn a_page_is_made_of_a_report_of_either_kind_and_of_nothing_else() {
        let labels = ["no".to_owned(), "yes".to_owned()];
        let p = [vec![0.9, 0.1], vec![0.4, 0.6], vec![0.3, 0.7], vec![0.6, 0.4]];
        let described = describe_classes(&p, &[0, 0, 1, 1], &labels);
        let estimate = |value| Estimate { value, low: Some(0.1), high: Some(0.9) };
        let report = SequenceReport {
            model: "coding 1.0.0 abcdef".into(),
            engine: "tract".into(),
            precision: "fp32".into(),
            split: "test".into(),
            data: "00".into(),
            test_reads: Some(2),
            left_out: [("too <long>".to_owned(), 3)].into(),
            records: 4,
            groups: 3,
            intervals: "95 %".into(),
            figures: [("auroc".to_owned(), estimate(0.75))].into(),
            floors: [("BLOSUM62".to_owned(), [("auroc".to_owned(), estimate(0.5))].into())].into(),
            described: Described::Classes(described),
        };
        let html = page(&serde_json::to_string(&report).unwrap(), &[]).unwrap();
        for part in [
            "<h1>coding 1.0.0: test split</h1>",
            "too &lt;long&gt;",
            "2, this one included",
            "Reliability",
            "BLOSUM62",
            "0.7500 [0.1000, 0.9000]",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert_eq!(html.matches("<svg role=\"img\"").count(), 4);
        assert!(page("{\"modes\": 3}", &[]).unwrap_err().to_string().contains("locus evaluate"));
    }
}
