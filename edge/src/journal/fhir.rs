//! Records as FHIR R4 bundles after the Genomics Reporting guide: a report, the variant, its molecular consequence, and
//! what the model makes of it as a diagnostic implication that derives from the variant.
//!
//! Nothing here says "pathogenic" alone: the significance is a text that names itself a computational prediction,
//! its status is preliminary until a qualified person has read it, and the sequence is not in it.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Exported;

const LOINC: &str = "http://loinc.org";
const TBD: &str = "http://hl7.org/fhir/uv/genomics-reporting/CodeSystem/tbd-codes-cs";
const PROFILE: &str = "http://hl7.org/fhir/uv/genomics-reporting/StructureDefinition/";
const ONTOLOGY: &str = "http://www.sequenceontology.org";

/// Accessions of the terms that an answer names.
const TERMS: [(&str, &str); 19] = [
    ("splice_acceptor_variant", "SO:0001574"),
    ("splice_donor_variant", "SO:0001575"),
    ("stop_gained", "SO:0001587"),
    ("frameshift_variant", "SO:0001589"),
    ("stop_lost", "SO:0001578"),
    ("start_lost", "SO:0002012"),
    ("inframe_insertion", "SO:0001821"),
    ("inframe_deletion", "SO:0001822"),
    ("missense_variant", "SO:0001583"),
    ("splice_region_variant", "SO:0001630"),
    ("intron_variant", "SO:0001627"),
    ("synonymous_variant", "SO:0001819"),
    ("coding_sequence_variant", "SO:0001580"),
    ("5_prime_UTR_variant", "SO:0001623"),
    ("3_prime_UTR_variant", "SO:0001624"),
    ("non_coding_transcript_exon_variant", "SO:0001792"),
    ("upstream_gene_variant", "SO:0001631"),
    ("downstream_gene_variant", "SO:0001632"),
    ("protein_altering_variant", "SO:0001818"),
];

/// A name that is the same in every export: a UUID of version 8 (RFC 9562) from the record's place.
fn uuid(record: &Exported, part: &str) -> String {
    let place = format!("locus-fhir-v1/{}/{}/{part}", record.receipt.journal, record.receipt.index);
    let hash = Sha256::digest(place.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn coded(system: &str, code: &str, display: &str) -> Value {
    json!({"coding": [{"system": system, "code": code, "display": display}]})
}

fn component(code: Value, key: &str, value: Value) -> Value {
    json!({"code": code, key: value})
}

fn text_component(loinc: &str, display: &str, text: &str) -> Value {
    component(coded(LOINC, loinc, display), "valueCodeableConcept", json!({"text": text}))
}

/// What every observation of a record has in common.
struct Common {
    subject: Option<Value>,
    issued: String,
    device: String,
    method: String,
    note: Value,
}

impl Common {
    fn observation(&self, profile: &str, code: Value) -> Value {
        let mut observation = json!({
            "resourceType": "Observation",
            "meta": {"profile": [format!("{PROFILE}{profile}")]},
            "status": "preliminary",
            "category": [
                coded("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory", "Laboratory"),
                coded("http://terminology.hl7.org/CodeSystem/v2-0074", "GE", "Genetics"),
            ],
            "code": code,
            "effectiveDateTime": self.issued,
            "issued": self.issued,
            "method": {"text": self.method},
            "device": {"reference": self.device},
            "note": self.note,
        });
        if let Some(subject) = &self.subject {
            observation["subject"] = subject.clone();
        }
        observation
    }
}

/// The bundle of one record; none of one that holds no answer.
pub(super) fn bundle(record: &Exported, entry: &Value, issued: &str) -> Option<Value> {
    let (request, answer) = (entry.get("request")?, entry.get("answer")?);
    let text = |value: &Value, key: &str| value[key].as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    let model = &answer["model"];
    let name = |key: &str| model[key].as_str().unwrap_or("-");
    let device = uuid(record, "device");
    let mut notes: Vec<String> = text(answer, "intended_use").into_iter().collect();
    notes.extend(
        answer["warnings"].as_array().into_iter().flatten().filter_map(|w| Some(w.as_str()?.to_owned())),
    );
    if !record.clock_trusted {
        notes.push(
            "The box did not trust its clock: the time may be wrong, the order is the record's index.".into(),
        );
    }
    let common = Common {
        subject: text(request, "subject").map(|subject| json!({"identifier": {"value": subject}})),
        issued: issued.to_owned(),
        device: device.clone(),
        method: format!(
            "Computational prediction by {} {} (bundle {}), {}",
            name("name"),
            name("version"),
            name("digest"),
            answer["engine"]["provider"].as_str().unwrap_or("-")
        ),
        note: notes.iter().map(|text| json!({"text": text})).collect(),
    };
    let mut entries = Vec::new();
    let mut results = Vec::new();
    let mut add = |part: &str, resource: Value, result: bool| {
        let url = uuid(record, part);
        if result {
            results.push(json!({"reference": url}));
        }
        entries.push(json!({"fullUrl": url, "resource": resource}));
        url
    };
    add(
        "device",
        json!({
            "resourceType": "Device",
            "deviceName": [{"name": format!("Locus {}", answer["box"].as_str().unwrap_or("-")), "type": "user-friendly-name"}],
            "type": {"text": "software that predicts from DNA sequence"},
            "version": [{"value": format!("{} {} {}", name("name"), name("version"), name("digest"))}],
        }),
        false,
    );
    let description = text(answer, "predicted_description").unwrap_or_else(|| "no prediction".to_owned());
    if answer["mutation"].is_string() {
        let variant = add("variant", variant(&common, request, answer), true);
        if let Some(terms) = text(answer, "consequence") {
            let mut observation = common.observation(
                "molecular-consequence",
                coded(TBD, "molecular-consequence", "Molecular Consequence"),
            );
            observation["derivedFrom"] = json!([{"reference": variant}]);
            observation["component"] = terms.split('&').map(consequence).collect();
            add("consequence", observation, true);
        }
        let mut observation = common.observation(
            "diagnostic-implication",
            coded(TBD, "diagnostic-implication", "Diagnostic Implication"),
        );
        observation["derivedFrom"] = json!([{"reference": variant}]);
        observation["component"] = implication(answer, &description);
        add("implication", observation, true);
    } else {
        let mut observation =
            common.observation("genomic-study", json!({"text": "Prediction for a whole sequence"}));
        observation["meta"] = json!({});
        if let Some(fields) = observation.as_object_mut() {
            fields.remove("meta");
        }
        observation["valueString"] = json!(description);
        add("prediction", observation, true);
    }
    let mut report = json!({
        "resourceType": "DiagnosticReport",
        "meta": {"profile": [format!("{PROFILE}genomic-report")]},
        "identifier": [{
            "system": format!("urn:locus:journal:{}", record.receipt.journal),
            "value": record.receipt.index.to_string(),
        }],
        "status": "preliminary",
        "category": [coded("http://terminology.hl7.org/CodeSystem/v2-0074", "GE", "Genetics")],
        "code": coded(LOINC, "51969-4", "Genetic analysis report"),
        "effectiveDateTime": issued,
        "issued": issued,
        "result": results,
        "conclusion": format!("{description}. Not a diagnosis."),
    });
    if let Some(subject) = &common.subject {
        report["subject"] = subject.clone();
    }
    entries.insert(0, json!({"fullUrl": uuid(record, "report"), "resource": report}));
    Some(json!({
        "resourceType": "Bundle",
        "identifier": {
            "system": "urn:ietf:rfc:3986",
            "value": uuid(record, "bundle"),
        },
        "type": "collection",
        "timestamp": issued,
        "entry": entries,
    }))
}

fn consequence(term: &str) -> Value {
    let code = TERMS.iter().find(|(known, _)| *known == term).map(|(_, code)| *code);
    let value = match code {
        Some(code) => coded(ONTOLOGY, code, term),
        None => json!({"text": term}),
    };
    component(coded(TBD, "feature-consequence", "Feature Consequence"), "valueCodeableConcept", value)
}

fn variant(common: &Common, request: &Value, answer: &Value) -> Value {
    let mut observation =
        common.observation("variant", coded(LOINC, "69548-6", "Genetic variant assessment"));
    observation["valueCodeableConcept"] = coded(LOINC, "LA9633-4", "Present");
    let mut components = Vec::new();
    let text = |value: &Value, key: &str| value[key].as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    if let Some(gene) = text(answer, "gene").or_else(|| text(request, "gene")) {
        components.push(text_component("48018-6", "Gene studied [ID]", &gene));
    }
    if let Some(transcript) = text(answer, "transcript_id") {
        components.push(text_component("51958-7", "Transcript reference sequence [ID]", &transcript));
    }
    for (key, loinc, display) in
        [("hgvs_c", "48004-6", "DNA change (c.HGVS)"), ("hgvs_p", "48005-6", "Amino acid change (pHGVS)")]
    {
        if let Some(name) = text(answer, key) {
            let value =
                json!({"coding": [{"system": "http://varnomen.hgvs.org", "code": name}], "text": name});
            components.push(component(coded(LOINC, loinc, display), "valueCodeableConcept", value));
        }
    }
    if let Some(assembly) = text(answer, "assembly").or_else(|| text(request, "assembly")) {
        let display = "Human reference sequence assembly version";
        components.push(text_component("62374-4", display, &assembly));
    }
    let position = text(request, "variant").unwrap_or_default();
    let parts: Vec<&str> = position.split('-').collect();
    if let [contig, position, reference, alternative] = parts[..]
        && let Ok(position) = position.parse::<u64>()
    {
        components.push(text_component("48000-4", "Chromosome", contig));
        components.push(component(
            coded(LOINC, "81254-5", "Genomic allele start-end"),
            "valueRange",
            json!({"low": {"value": position}}),
        ));
        components.push(component(
            coded(LOINC, "69547-8", "Genomic ref allele [ID]"),
            "valueString",
            json!(reference),
        ));
        components.push(component(
            coded(LOINC, "69551-0", "Genomic alt allele [ID]"),
            "valueString",
            json!(alternative),
        ));
    } else if let Some(mutation) = text(answer, "mutation") {
        let code = json!({"text": "Change in the sequence that was sent"});
        components.push(component(code, "valueString", json!(mutation)));
    }
    observation["component"] = components.into();
    observation
}

fn implication(answer: &Value, description: &str) -> Value {
    let significance = coded(LOINC, "53037-8", "Genetic variation clinical significance [Imp]");
    let abstained = answer["abstained"].as_bool().unwrap_or(true) || answer["band"] == json!("none");
    let mut components = vec![if abstained {
        json!({
            "code": significance,
            "dataAbsentReason": {
                "coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "not-performed"}],
                "text": description,
            },
        })
    } else {
        component(significance, "valueCodeableConcept", json!({"text": description}))
    }];
    for (key, words) in [
        ("pathogenic_probability", "Calibrated probability of the computational prediction"),
        ("prior", "Share of pathogenic variants that the probability assumes"),
    ] {
        if let Some(value) = answer[key].as_f64() {
            let quantity = json!({"value": value, "system": "http://unitsofmeasure.org", "code": "1"});
            components.push(component(json!({"text": words}), "valueQuantity", quantity));
        }
    }
    components.into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::journal::{Content, Receipt};

    pub(in crate::journal) fn record(entry: &Value) -> Exported {
        Exported {
            segment: 1,
            receipt: Receipt {
                journal: "ab".repeat(16),
                index: 7,
                leaf: "01".repeat(32),
                root: "02".repeat(32),
            },
            unix_ms: 1_790_000_000_000,
            clock_trusted: true,
            bundle: "03".repeat(32),
            repeat_of: None,
            content: Content::Open(zeroize::Zeroizing::new(entry.to_string().into_bytes())),
        }
    }

    pub(in crate::journal) fn entry() -> Value {
        json!({
            "terminal": "ward-3", "transport": "http",
            "request": {
                "id": "r-1", "subject": "=sample, \"12\"", "variant": "chr17-43045705-T-A", "gene": "BRCA1",
                "sequence": "GATTACAGATTACA", "assembly": "GRCh38",
            },
            "answer": {
                "id": "r-1", "box": "b", "mutation": "chr17-43045705-T-A", "predicted_label": 1,
                "predicted_description": "computational prediction: towards pathogenic",
                "pathogenic_probability": 0.93, "prior": 0.1, "band": "pathogenic", "abstained": false,
                "consequence": "missense_variant&splice_region_variant", "transcript_id": "ENST00000357654",
                "hgvs_c": "ENST00000357654:c.5096G>A", "hgvs_p": "p.(Arg1699Gln)",
                "model": {"name": "variant-effect", "version": "1.0.0", "digest": "ff00"},
                "engine": {"provider": "ort-cpu", "precision": "int8"},
                "warnings": ["w"], "intended_use": "Research use.",
            },
        })
    }

    /// Every resource of a bundle, by type and code.
    fn rules(bundle: &Value) {
        assert_eq!((&bundle["resourceType"], &bundle["type"]), (&json!("Bundle"), &json!("collection")));
        let entries = bundle["entry"].as_array().unwrap();
        let urls: Vec<&str> = entries.iter().map(|entry| entry["fullUrl"].as_str().unwrap()).collect();
        assert_eq!(urls.iter().collect::<std::collections::HashSet<_>>().len(), urls.len());
        assert_eq!(entries[0]["resource"]["resourceType"], "DiagnosticReport");
        fn each<'a>(value: &'a Value, see: &mut dyn FnMut(&'a str, &'a Value)) {
            match value {
                Value::Object(map) => map.iter().for_each(|(key, value)| {
                    see(key, value);
                    each(value, see);
                }),
                Value::Array(list) => {
                    assert!(!list.is_empty(), "FHIR has no empty lists");
                    list.iter().for_each(|value| each(value, see));
                }
                Value::Null => panic!("FHIR has no null"),
                _ => {}
            }
        }
        each(bundle, &mut |key, value| match key {
            "reference" => assert!(urls.contains(&value.as_str().unwrap()), "{value} leads nowhere"),
            "status" => assert_eq!(value, "preliminary"),
            "display" | "text" | "conclusion" => {
                let words = value.as_str().unwrap().to_lowercase();
                assert_ne!(words.trim(), "pathogenic");
                assert!(!words.contains("towards pathogenic") || words.contains("computational prediction"));
            }
            "code" if value.is_string() => assert_ne!(value, "LA6668-3", "the LOINC answer Pathogenic"),
            _ => {}
        });
        for entry in entries {
            let resource = &entry["resource"];
            if resource["resourceType"] == "Observation" {
                assert!(resource["code"].is_object() && resource["method"]["text"].is_string());
                let values = resource.as_object().unwrap().keys().filter(|key| key.starts_with("value"));
                assert!(values.count() <= 1, "value[x] is one");
            }
        }
    }

    #[test]
    fn an_answer_becomes_report_variant_consequence_and_implication() {
        let entry = entry();
        let bundle = bundle(&record(&entry), &entry, "2026-09-21T14:13:20Z").unwrap();
        rules(&bundle);
        let text = bundle.to_string();
        for named in [
            "51969-4",
            "69548-6",
            "48004-6",
            "51958-7",
            "48018-6",
            "53037-8",
            "ENST00000357654:c.5096G>A",
            "SO:0001583",
            "SO:0001630",
            "derivedFrom",
            "Computational prediction by variant-effect 1.0.0",
        ] {
            assert!(text.contains(named), "{named}");
        }
        assert!(!text.contains("GATTACAGATTACA"), "the sequence stays in the journal");
        let again = super::bundle(&record(&entry), &entry, "2026-09-21T14:13:20Z").unwrap();
        assert_eq!(bundle, again, "the same record has the same names");
    }

    #[test]
    fn an_abstention_has_a_reason_and_no_significance() {
        let mut entry = entry();
        for (key, value) in [
            ("band", json!("none")),
            ("abstained", json!(true)),
            ("predicted_description", json!("no prediction: no transcript")),
            ("pathogenic_probability", Value::Null),
            ("hgvs_c", Value::Null),
            ("consequence", Value::Null),
            ("transcript_id", Value::Null),
        ] {
            entry["answer"][key] = value;
        }
        entry["request"] = json!({"sequence": "ACGT", "mutation": "A1T"});
        entry["answer"]["mutation"] = json!("A1T");
        let bundle =
            bundle(&Exported { clock_trusted: false, ..record(&entry) }, &entry, "1970-01-01T00:00:00Z");
        let bundle = bundle.unwrap();
        rules(&bundle);
        let text = bundle.to_string();
        assert!(text.contains("dataAbsentReason") && text.contains("no transcript"));
        assert!(text.contains("did not trust its clock"));
        entry["answer"]["mutation"] = Value::Null;
        let whole = super::bundle(&record(&entry), &entry, "1970-01-01T00:00:00Z").unwrap();
        rules(&whole);
        assert!(whole.to_string().contains("Prediction for a whole sequence"));
        assert!(super::bundle(&record(&entry), &json!({"n": 1}), "1970-01-01T00:00:00Z").is_none());
    }
}
