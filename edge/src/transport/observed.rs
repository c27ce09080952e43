//! Observations with codes, of which laboratory messages are made: what a question is read from, and what an answer says.

use locus_firmware_config::message::{Answer, Band, Request};

/// Coding system of our own codes.
pub(super) const LOCAL: &str = "99LOCUS";
const LOINC: &str = "LN";
const VARIANT: &str = "variant";

const GENE: &str = "48018-6";
const CODING: &str = "48004-6";
const GENOMIC: &str = "81290-9";
const TRANSCRIPT: &str = "51958-7";
const ASSEMBLY: &str = "62374-4";

/// What is said where no observation names a variant.
pub(super) const NO_VARIANT: &str = "got no variant, expected an observation with the code 48004-6 (c.HGVS) or 81290-9 (g.HGVS) of LN, or variant of 99LOCUS";
/// What is said where there is more than one.
pub(super) const SEVERAL: &str = "got several values of one kind, expected one variant and one patient in a message; send one message each";

/// A value that may be said once.
#[derive(Debug, Default)]
pub(super) struct Once(pub(super) Option<String>);

impl Once {
    /// Takes a value; whether it is the only one.
    pub(super) fn take(&mut self, value: String) -> bool {
        if self.0.as_ref().is_some_and(|known| *known != value) {
            return false;
        }
        self.0 = Some(value);
        true
    }
}

/// What the observations of a message ask about.
#[derive(Debug, Default)]
pub(super) struct Asked {
    local: Once,
    coding: Once,
    genomic: Once,
    gene: Once,
    transcript: Once,
    assembly: Once,
}

impl Asked {
    /// Where the value of a code goes, and whether it is the variant; `None` of a code that asks nothing. Without a
    /// system the code alone counts.
    pub(super) fn place(&mut self, code: &[u8], system: Option<&[u8]>) -> Option<(&mut Once, bool)> {
        let of = |expected: &str| system.is_none_or(|system| system == expected.as_bytes());
        Some(match str::from_utf8(code).ok()? {
            VARIANT if of(LOCAL) => (&mut self.local, true),
            CODING if of(LOINC) => (&mut self.coding, true),
            GENOMIC if of(LOINC) => (&mut self.genomic, true),
            GENE if of(LOINC) => (&mut self.gene, false),
            TRANSCRIPT if of(LOINC) => (&mut self.transcript, false),
            ASSEMBLY if of(LOINC) => (&mut self.assembly, false),
            _ => return None,
        })
    }

    /// The request; `None` where no variant was said. Of several ways to name it the first of coordinates, c. and g. is
    /// read.
    pub(super) fn request(self, id: Option<String>, subject: Option<String>) -> Option<Request> {
        let variant = self.local.0.or(self.coding.0).or(self.genomic.0)?;
        Some(Request {
            id,
            variant: Some(variant),
            subject: subject.filter(|subject| !subject.is_empty()),
            assembly: self.assembly.0,
            gene: self.gene.0,
            transcript_id: self.transcript.0,
            ..Request::default()
        })
    }
}

/// Whether a value of a code is a code itself, of which the name beside it is meant: of lists of genes and assemblies.
pub(super) fn is_listed(code: &[u8], value: &str) -> bool {
    (code == GENE.as_bytes() && value.starts_with("HGNC:"))
        || (code == ASSEMBLY.as_bytes() && value.starts_with("LA"))
}

/// One thing that an answer says.
#[derive(Debug)]
pub(super) struct Observation {
    /// HL7's type of the value.
    pub(super) kind: &'static str,
    pub(super) code: &'static str,
    pub(super) name: &'static str,
    pub(super) system: &'static str,
    pub(super) value: String,
    /// The box could not say it.
    pub(super) declined: bool,
}

/// What an answer says. None of it is a classification alone.
pub(super) fn of(answer: &Answer, gene: Option<&str>) -> Vec<Observation> {
    let declined = answer.abstained || answer.band == Band::None;
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let model = &answer.model;
    let probability = answer.pathogenic_probability.map(|p| p.to_string());
    let prior = answer.prior.filter(|_| probability.is_some()).map(|p| p.to_string());
    let band = (!declined).then(|| format!("computational prediction: {}", answer.band.as_str()));
    let evidence = answer.evidence.as_ref().map(|e| format!("{} {}", e.criterion, e.strength));
    // Files have no version and no digest.
    let reference = answer.reference.as_ref().map(|r| format!("{} {} {}", r.name, r.version, r.digest));
    let reference = reference.map(|named| named.trim_end().to_owned());
    let receipt = answer.receipt.as_ref().map(|receipt| {
        format!(
            "journal {} index {} leaf {} root {}",
            receipt.journal, receipt.index, receipt.leaf, receipt.root
        )
    });
    let all = [
        ("TX", VARIANT, "Variant as it was asked about", LOCAL, answer.mutation.clone()),
        ("ST", GENE, "Gene studied [ID]", LOINC, owned(gene)),
        ("ST", TRANSCRIPT, "Transcript reference sequence [ID]", LOINC, answer.transcript_id.clone()),
        ("TX", CODING, "DNA change (c.HGVS)", LOINC, answer.hgvs_c.clone()),
        ("TX", "48005-6", "Amino acid change (p.HGVS)", LOINC, answer.hgvs_p.clone()),
        ("ST", ASSEMBLY, "Human reference sequence assembly version", LOINC, answer.assembly.clone()),
        ("ST", "consequence", "Consequence (Sequence Ontology)", LOCAL, answer.consequence.clone()),
        (
            "TX",
            "prediction",
            "Computational prediction, not a classification",
            LOCAL,
            Some(answer.predicted_description.clone()),
        ),
        (
            "NM",
            "probability",
            "Calibrated probability of pathogenic, by computational prediction",
            LOCAL,
            probability,
        ),
        ("NM", "prior", "Share of pathogenic variants that the probability assumes", LOCAL, prior),
        ("ST", "band", "Band of the computational prediction", LOCAL, band),
        ("ST", "evidence", "Strength of the computational prediction as evidence", LOCAL, evidence),
        (
            "TX",
            "out_of_distribution",
            "Unlike what the model was trained on",
            LOCAL,
            answer.out_of_distribution_reason.clone(),
        ),
        (
            "TX",
            "model",
            "Model that answered",
            LOCAL,
            Some(format!("{} {} bundle {}", model.name, model.version, model.digest)),
        ),
        ("TX", "reference", "Reference that was read", LOCAL, reference),
        ("TX", "receipt", "Proof that the answer is kept", LOCAL, receipt),
    ];
    let said = |(kind, code, name, system, value): (_, _, _, _, Option<String>)| {
        let value = value.filter(|value| !value.is_empty())?;
        Some(Observation { kind, code, name, system, value, declined: declined && code == "prediction" })
    };
    all.into_iter().filter_map(said).collect()
}
