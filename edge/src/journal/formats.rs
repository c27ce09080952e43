//! A record in the forms that other programs read: CSV and FHIR.

use locus_firmware_config::message::{Answer, Request};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

use super::{Content, Exported, fhir};

/// The columns of a CSV export.
pub const COLUMNS: [&str; 30] = [
    "index",
    "time",
    "clock_trusted",
    "terminal",
    "transport",
    "id",
    "subject",
    "variant",
    "mutation",
    "assembly",
    "gene",
    "transcript_id",
    "hgvs_c",
    "hgvs_p",
    "consequence",
    "band",
    "pathogenic_probability",
    "prior",
    "abstained",
    "description",
    "label",
    "value",
    "model",
    "version",
    "digest",
    "provider",
    "leaf",
    "root",
    "repeat_of",
    "unreadable",
];

/// A point in time as text; the start of time where it is none.
fn rfc3339(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1_000).unwrap_or(0);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

/// A table opens what starts with these as a formula: a terminal must not write one into it.
fn plain(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

impl Exported {
    fn entry(&self) -> Option<Value> {
        match &self.content {
            Content::Open(bytes) => serde_json::from_slice(bytes).ok(),
            _ => None,
        }
    }

    /// One line of CSV, in the order of [`COLUMNS`].
    pub fn to_csv_row(&self) -> Vec<Zeroizing<String>> {
        let entry = self.entry().unwrap_or_default();
        let (request, answer) = (&entry["request"], &entry["answer"]);
        let said = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => plain(text.clone()),
            other => other.to_string(),
        };
        let either = |key: &str| if answer[key].is_null() { said(&request[key]) } else { said(&answer[key]) };
        let unreadable = match &self.content {
            Content::Open(_) => "",
            Content::Shredded => "shredded",
            Content::SealedToOthers => "sealed_to_others",
        };
        let row = [
            self.receipt.index.to_string(),
            rfc3339(self.unix_ms),
            self.clock_trusted.to_string(),
            said(&entry["terminal"]),
            said(&entry["transport"]),
            said(&request["id"]),
            said(&request["subject"]),
            said(&request["variant"]),
            either("mutation"),
            either("assembly"),
            either("gene"),
            either("transcript_id"),
            said(&answer["hgvs_c"]),
            said(&answer["hgvs_p"]),
            said(&answer["consequence"]),
            said(&answer["band"]),
            said(&answer["pathogenic_probability"]),
            said(&answer["prior"]),
            said(&answer["abstained"]),
            said(&answer["predicted_description"]),
            said(&answer["prediction"]["label"]),
            said(&answer["prediction"]["value"]),
            said(&answer["model"]["name"]),
            said(&answer["model"]["version"]),
            self.bundle.clone(),
            said(&answer["engine"]["provider"]),
            self.receipt.leaf.clone(),
            self.receipt.root.clone(),
            self.repeat_of.map_or_else(String::new, |index| index.to_string()),
            unreadable.to_owned(),
        ];
        row.into_iter().map(Zeroizing::new).collect()
    }

    /// A FHIR R4 bundle in one line; none of a record that cannot be read or holds no answer.
    pub fn to_fhir(&self) -> Option<Zeroizing<String>> {
        let bundle = fhir::bundle(self, &self.entry()?, &rfc3339(self.unix_ms))?;
        Some(Zeroizing::new(bundle.to_string()))
    }
}

/// A FHIR R4 bundle of an answer as its asker has it, `unix_ms` after 1970; resources have the names that an export of its
/// record gives them. None of an answer without a receipt: what is not kept is not handed on.
pub fn fhir_of(request: &Request, answer: &Answer, unix_ms: u64) -> Option<Zeroizing<String>> {
    let entry = serde_json::json!({ "request": request, "answer": answer });
    let record = Exported {
        segment: 0,
        receipt: answer.receipt.clone()?,
        unix_ms,
        // Of the box's clock a warning in the answer speaks.
        clock_trusted: true,
        bundle: answer.model.digest.clone(),
        repeat_of: None,
        content: Content::Open(Zeroizing::new(entry.to_string().into_bytes())),
    };
    record.to_fhir()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::fhir::tests::{entry, record};

    #[test]
    fn a_row_has_every_column_and_no_formula() {
        let row = record(&entry()).to_csv_row();
        assert_eq!(row.len(), COLUMNS.len());
        let of = |column: &str| row[COLUMNS.iter().position(|c| *c == column).unwrap()].as_str();
        assert_eq!(of("subject"), "'=sample, \"12\"");
        assert_eq!((of("hgvs_c"), of("gene")), ("ENST00000357654:c.5096G>A", "BRCA1"));
        assert_eq!((of("time"), of("pathogenic_probability")), ("2026-09-21T14:13:20Z", "0.93"));
        let shredded = Exported { content: Content::Shredded, ..record(&entry()) };
        assert_eq!(shredded.to_csv_row().last().unwrap().as_str(), "shredded");
        assert!(shredded.to_fhir().is_none());
        assert!(record(&entry()).to_fhir().unwrap().starts_with('{'));
        assert_eq!(rfc3339(u64::MAX), "1970-01-01T00:00:00Z");
    }
}
