//! What is written as HL7 v2: acknowledgements, and answers as ORU^R01.

use locus_firmware_config::message::Answer;

use super::order::{Head, Refusal};
use crate::transport::{
    fields::HL7,
    observed::{self, LOCAL},
};

/// A message that is being written.
struct Out(Vec<u8>);

impl Out {
    /// Begins a message.
    fn new(head: &Head, box_name: &str, kind: &str, control: &str, time: &str) -> Self {
        let mut out = Self(Vec::with_capacity(4_096));
        out.0.extend_from_slice(br"MSH|^~\&|LOCUS");
        out.text(box_name).raw(&head.from[0]).raw(&head.from[1]).text(time).raw(b"").raw(kind.as_bytes());
        out.text(control);
        out.raw(if head.processing.is_empty() { b"P" } else { &head.processing });
        out.raw(if head.version.starts_with(b"2.") { &head.version } else { b"2.5.1" });
        if !head.charset.is_empty() {
            out.raw(b"||||").raw(&head.charset);
        }
        out.end();
        out
    }

    fn segment(&mut self, name: &str) -> &mut Self {
        self.0.extend_from_slice(name.as_bytes());
        self
    }

    /// A field as it came.
    fn raw(&mut self, field: &[u8]) -> &mut Self {
        self.0.push(b'|');
        self.0.extend_from_slice(field);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.0.push(b'|');
        HL7.write(&mut self.0, text);
        self
    }

    /// A field of a code, its name and the system that it is of.
    fn coded(&mut self, code: &str, name: &str, system: &str) -> &mut Self {
        self.text(code);
        for part in [name, system] {
            self.0.push(HL7.component);
            HL7.write(&mut self.0, part);
        }
        self
    }

    fn end(&mut self) {
        self.0.push(b'\r');
    }

    /// Notes with numbers from 1.
    fn notes<'a>(&mut self, notes: impl Iterator<Item = &'a str>) {
        for (number, note) in notes.enumerate() {
            self.segment("NTE").text(&(number + 1).to_string()).raw(b"L").text(note).end();
        }
    }
}

/// Says whether a message was taken.
pub(super) fn acknowledgement(
    head: &Head,
    box_name: &str,
    refusal: Option<&Refusal>,
    control: &str,
    time: &str,
) -> Vec<u8> {
    let mut out = Out::new(head, box_name, "ACK^R01^ACK", control, time);
    out.segment("MSA").raw(refusal.map_or("AA", |refusal| refusal.acknowledge).as_bytes()).raw(&head.control);
    let Some(refusal) = refusal else {
        out.end();
        return out.0;
    };
    let code = refusal.fault.code.as_str();
    // Where versions before 2.5 look for it.
    out.text(code).end();
    let condition = match refusal.condition {
        100 => "Segment sequence error",
        101 => "Required field missing",
        102 => "Data type error",
        103 => "Table value not found",
        200 => "Unsupported message type",
        201 => "Unsupported event code",
        203 => "Unsupported version id",
        204 => "Unknown key identifier",
        205 => "Duplicate key identifier",
        _ => "Application internal error",
    };
    out.segment("ERR").raw(b"").raw(refusal.place.as_bytes());
    out.coded(&refusal.condition.to_string(), condition, "HL70357").raw(b"E");
    out.coded(code, "", LOCAL).raw(b"");
    let retry = refusal.fault.retry_after_ms.map(|ms| format!("retry_after_ms={ms}"));
    out.text(retry.as_deref().unwrap_or("")).text(&refusal.fault.message).end();
    out.0
}

/// An answer. Every observation is preliminary until a qualified person has read it; none says a classification alone.
pub(super) fn answer(head: &Head, answer: &Answer, gene: Option<&str>, control: &str, time: &str) -> Vec<u8> {
    let mut out = Out::new(head, &answer.r#box, "ORU^R01^ORU_R01", control, time);
    out.segment("PID").raw(b"1").raw(b"").raw(&head.patient).end();
    out.segment("OBR").raw(b"1").raw(&head.order[0]).raw(&head.order[1]);
    out.coded("51969-4", "Genetic analysis report", "LN").raw(b"|").text(time);
    // The 25th field: preliminary.
    out.raw(b"|||||||||||||").text(time).raw(b"||P").end();
    out.notes(std::iter::once(&*answer.intended_use).chain(answer.warnings.iter().map(|w| &**w)));
    let method = format!("computational prediction by {} {}", answer.model.name, answer.model.version);
    for (n, said) in observed::of(answer, gene).iter().enumerate() {
        out.segment("OBX").text(&(n + 1).to_string()).raw(said.kind.as_bytes());
        out.coded(said.code, said.name, said.system).raw(b"").text(&said.value);
        // Status is the 11th field, time the 14th, method the 17th.
        out.raw(b"||||").raw(if said.declined { b"X" } else { b"P" });
        out.raw(b"|").text(time).raw(b"|").text(&method).end();
    }
    out.0
}

#[cfg(test)]
mod tests {
    use locus_firmware_config::message::{Band, Fault, FaultCode, Outcome};

    use super::*;
    use crate::transport::fields::field;

    fn head() -> Head {
        Head {
            from: [b"LAB".to_vec(), b"ST".to_vec()],
            control: b"m-1".to_vec(),
            processing: b"T".to_vec(),
            version: b"2.4".to_vec(),
            charset: b"8859/1".to_vec(),
            patient: b"12^^^H".to_vec(),
            order: [b"p1".to_vec(), b"f1".to_vec()],
        }
    }

    #[test]
    fn an_acknowledgement_says_what_and_why() {
        let good = acknowledgement(&head(), "b", None, "c", "t");
        assert_eq!(
            String::from_utf8(good).unwrap(),
            "MSH|^~\\&|LOCUS|b|LAB|ST|t||ACK^R01^ACK|c|T|2.4||||||8859/1\rMSA|AA|m-1\r"
        );
        let fault = Fault { retry_after_ms: Some(5), ..Fault::new(FaultCode::Busy, "a|b\r") };
        let bad = acknowledgement(&head(), "b", Some(&Refusal::of(&fault)), "c", "t");
        let text = String::from_utf8(bad).unwrap();
        assert!(text.contains("\rMSA|AR|m-1|busy\r"), "{text}");
        assert!(
            text.ends_with(
                "ERR|||207^Application internal error^HL70357|E|busy^^99LOCUS||retry_after_ms=5|a\\F\\b?\r"
            ),
            "{text}"
        );
    }

    #[test]
    fn an_answer_is_preliminary_and_never_says_a_class_alone() {
        let Outcome::Answer(mut given) = crate::pipeline::tests::an_answer() else { panic!("no answer") };
        given.mutation = Some("c.1A>G|x".into());
        given.warnings = vec!["w\r\nOBX|1".into(), "\u{fc}".into()];
        for (band, words) in [
            (Band::Pathogenic, "computational prediction: towards pathogenic"),
            (Band::None, "no prediction: x"),
        ] {
            (given.band, given.predicted_description) = (band, words.into());
            given.abstained = band == Band::None;
            let bytes = answer(&head(), &given, Some("BRCA1"), "c", "t");
            let text = String::from_utf8(bytes).unwrap();
            let segments: Vec<&str> = text.trim_end().split('\r').collect();
            for segment in &segments {
                let name = field(segment.as_bytes(), 0);
                if name == b"OBX" {
                    let value = String::from_utf8_lossy(field(segment.as_bytes(), 5)).to_lowercase();
                    assert!(
                        !value.contains("pathogenic") || value.contains("computational prediction"),
                        "{segment}"
                    );
                    let status = field(segment.as_bytes(), 11);
                    assert_eq!(
                        status,
                        if segment.contains("|no prediction") { b"X" } else { b"P" },
                        "{segment}"
                    );
                }
            }
            let obr = segments.iter().find(|s| s.starts_with("OBR")).unwrap();
            assert_eq!(field(obr.as_bytes(), 25), b"P");
            assert_eq!((field(obr.as_bytes(), 7), field(obr.as_bytes(), 22)), (&b"t"[..], &b"t"[..]));
            let count = |name: &str| segments.iter().filter(|s| s.starts_with(name)).count();
            assert_eq!((count("MSH|"), count("PID|"), count("OBR|"), count("NTE|")), (1, 1, 1, 3));
            assert!(text.contains("c.1A>G\\F\\x") && text.contains("|12^^^H"), "{text}");
        }
    }
}
