//! Records of LIS02-A2 (ASTM E1394): a question with one variant, an answer, a fault.

use locus_firmware_config::message::{Answer, Fault, FaultCode, Request};

use crate::transport::{
    fields::{Delimiters, field},
    observed::{self, Asked, NO_VARIANT, Once, SEVERAL, is_listed},
};

/// Those that LIS02-A2 names; others are not taken.
const LIS: Delimiters = Delimiters { component: b'^', repetition: b'\\', escape: b'&', subcomponent: None };
/// Longest field that is repeated in an answer, in bytes.
const MAX_REPEATED: usize = 250;

/// What an answer repeats of the message that it answers, as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Message control id.
    control: Vec<u8>,
    /// Sender.
    from: Vec<u8>,
    /// Ids of the patient by practice and laboratory.
    patient: [Vec<u8>; 2],
    /// Specimen.
    specimen: Vec<u8>,
}

fn records(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    message.split(|&b| b == b'\r').filter(|record| !record.is_empty())
}

fn repeated(record: &[u8], number: usize) -> Vec<u8> {
    let value = field(record, number);
    let short = value.len() <= MAX_REPEATED && value.iter().all(|&b| b >= 0x20);
    if short { value.to_vec() } else { Vec::new() }
}

fn bad(message: &str) -> Fault {
    Fault::new(FaultCode::BadRequest, message)
}

fn unreadable() -> Fault {
    bad(
        "got a value that is not printable ASCII or holds other escapes than of delimiters, expected plain text",
    )
}

/// Reads a message, and what an answer repeats of it.
pub(super) fn read(message: &[u8], patient_as_subject: bool) -> (Head, Result<Request, Fault>) {
    let mut head = Head::default();
    let request = request(message, &mut head, patient_as_subject);
    (head, request)
}

fn request(message: &[u8], head: &mut Head, patient_as_subject: bool) -> Result<Request, Fault> {
    let first = records(message).next().unwrap_or_default();
    if first != br"H|\^&" && !first.starts_with(br"H|\^&|") {
        return Err(bad(r"got no header record, expected H|\^& at the start"));
    }
    (head.control, head.from) = (repeated(first, 2), repeated(first, 4));
    if message.iter().any(|&b| b < 0x20 && b != b'\r') {
        return Err(bad("got a control character in a record, expected none but the ends of records"));
    }
    let id = LIS.text(&head.control).filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| bad("got no message control id in H-3, expected one that is used once"))?;
    let (mut asked, mut patient, mut specimen) = (Asked::default(), Once::default(), Once::default());
    let mut ended = false;
    for record in records(message).skip(1) {
        if ended {
            return Err(bad("got a record after the terminator, expected one message in a transmission"));
        }
        let text = |component: &[u8]| LIS.text(component).ok_or_else(unreadable);
        match field(record, 0) {
            b"P" => {
                head.patient = [repeated(record, 2), repeated(record, 3)];
                let own = text(LIS.component(field(record, 2), 1))?;
                let id = if own.is_empty() { text(LIS.component(field(record, 3), 1))? } else { own };
                if !patient.take(id) {
                    return Err(bad(SEVERAL));
                }
            }
            b"O" => {
                head.specimen = repeated(record, 2);
                if !specimen.take(text(LIS.component(field(record, 2), 1))?) {
                    return Err(bad(SEVERAL));
                }
            }
            // Of a result that cannot be obtained nothing is asked.
            b"R" if field(record, 8) != b"X" => observe(&mut asked, record)?,
            b"L" => ended = true,
            [b'A'..=b'Z'] => {}
            _ => return Err(bad("got a line that is no record, expected one letter and |")),
        }
    }
    if !ended {
        return Err(bad("got no terminator record, expected L at the end"));
    }
    let subject = patient.0.filter(|_| patient_as_subject);
    let request = asked.request(Some(id), subject).ok_or_else(|| bad(NO_VARIANT))?;
    request.check()
}

/// Takes what one result says. Its code is the universal test id or, as most write it, the manufacturer's.
fn observe(asked: &mut Asked, record: &[u8]) -> Result<(), Fault> {
    let (named, value) = (field(record, 2), field(record, 3));
    let universal = LIS.component(named, 1);
    let code = if universal.is_empty() { LIS.component(named, 4) } else { universal };
    let Some((place, _)) = asked.place(code, None) else { return Ok(()) };
    if value.contains(&LIS.repetition) {
        return Err(bad("got several values in one field, expected one"));
    }
    let part = |number| LIS.text(LIS.component(value, number)).ok_or_else(unreadable);
    let mut text = part(1)?;
    if is_listed(code, &text) {
        text = part(2)?;
    }
    if !text.is_empty() && !place.take(text) {
        return Err(bad(SEVERAL));
    }
    Ok(())
}

/// A message that is being written.
struct Out(Vec<u8>);

impl Out {
    fn new(head: &Head, box_name: &str, time: &str) -> Self {
        let mut out = Self(Vec::with_capacity(4_096));
        out.0.extend_from_slice(br"H|\^&");
        out.raw(&head.control).raw(b"").parts(&["LOCUS", box_name]).raw(b"|||").raw(&head.from);
        out.raw(b"|P|LIS2-A2").text(time).end();
        out.0.extend_from_slice(b"P|1");
        out.raw(&head.patient[0]).raw(&head.patient[1]).end();
        out.0.extend_from_slice(b"O|1");
        // The report type is the 26th field: preliminary.
        out.raw(&head.specimen).raw(b"|^^^51969-4|R").raw(&[b'|'; 18]).raw(b"P").end();
        out
    }

    fn raw(&mut self, field: &[u8]) -> &mut Self {
        self.0.push(b'|');
        self.0.extend_from_slice(field);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.parts(&[text])
    }

    fn parts(&mut self, parts: &[&str]) -> &mut Self {
        for (n, part) in parts.iter().enumerate() {
            self.0.push(if n == 0 { b'|' } else { LIS.component });
            LIS.write(&mut self.0, part);
        }
        self
    }

    fn end(&mut self) {
        self.0.push(b'\r');
    }

    fn comment(&mut self, number: usize, parts: &[&str]) {
        self.0.push(b'C');
        self.text(&number.to_string()).raw(b"I").parts(parts).raw(b"G").end();
    }

    fn terminated(mut self, code: &[u8]) -> Vec<u8> {
        self.0.extend_from_slice(b"L|1");
        self.raw(code).end();
        self.0
    }
}

/// An answer. Every result is preliminary until a qualified person has read it; none says a classification alone.
pub(super) fn answer(head: &Head, answer: &Answer, gene: Option<&str>, time: &str) -> Vec<u8> {
    let mut out = Out::new(head, &answer.r#box, time);
    let notes = std::iter::once(&answer.intended_use).chain(&answer.warnings);
    notes.enumerate().for_each(|(n, note)| out.comment(n + 1, &[note]));
    for (n, said) in observed::of(answer, gene).iter().enumerate() {
        out.0.push(b'R');
        out.text(&(n + 1).to_string()).parts(&["", "", "", said.code, said.name]).text(&said.value);
        // The status is the 9th field, the time the 13th.
        out.raw(b"|||").raw(if said.declined { b"X" } else { b"P" }).raw(b"||").text(time).end();
    }
    out.terminated(b"N")
}

/// A fault: `L|1|Q` where the question must be corrected, `L|1|E` where it may be sent again.
pub(super) fn fault(head: &Head, box_name: &str, fault: &Fault, time: &str) -> Vec<u8> {
    let mut out = Out::new(head, box_name, time);
    let retry = fault.retry_after_ms.map(|ms| format!("retry_after_ms={ms}"));
    out.comment(1, &[fault.code.as_str(), &fault.message, retry.as_deref().unwrap_or("")]);
    out.terminated(if fault.retryable { b"E" } else { b"Q" })
}

#[cfg(test)]
mod tests {
    use locus_firmware_config::message::{Band, Outcome};
    use proptest::prelude::*;

    use super::*;

    const ORDER: &str = "H|\\^&|m-1||ANALYSER^1|||||LOCUS||P|LIS2-A2|20261126\rP|1|12^a||7|DOE^JANE\rO|1|s-1||^^^51969-4|R\rR|1|^^^48018-6|HGNC:1100^BRCA1|||||F\rR|2|^^^48004-6|NM_007294.4:c.5096G>A|||||F\rR|3|62374-4|GRCh38\rC|1|I|x|G\rL|1|N\r";

    #[test]
    fn a_message_becomes_a_request() {
        let (head, request) = read(ORDER.as_bytes(), true);
        let request = request.unwrap();
        assert_eq!((request.id.as_deref(), request.subject.as_deref()), (Some("m-1"), Some("12")));
        assert_eq!(request.variant.as_deref(), Some("NM_007294.4:c.5096G>A"));
        assert_eq!((request.gene.as_deref(), request.assembly.as_deref()), (Some("BRCA1"), Some("GRCh38")));
        assert_eq!((&head.from[..], &head.specimen[..]), (&b"ANALYSER^1"[..], &b"s-1"[..]));
        let laboratory = ORDER.replace("12^a||7", "|8|7");
        assert_eq!(read(laboratory.as_bytes(), true).1.unwrap().subject.as_deref(), Some("8"));
        assert_eq!(read(ORDER.as_bytes(), false).1.unwrap().subject, None);
    }

    #[test]
    fn what_cannot_be_taken_is_refused() {
        for (from, to, named) in [
            ("H|\\^&", "H|~^&", "header"),
            ("H|\\^&", "P|1\rH|\\^&", "header"),
            ("m-1", "", "control id"),
            ("JANE", "J\tNE", "control character"),
            ("48004-6", "48004-7", "no variant"),
            ("G>A|||||F", "G>A|||||X", "no variant"),
            ("c.5096G>A", "c.5096G>A\\c.1A>G", "several values in one"),
            ("c.5096G>A", "c.1&Z&", "escapes"),
            ("C|1|I", "R|9|^^^48004-6|c.1A>G\rC|1|I", "several values"),
            ("O|1", "P|2|13\rO|1", "several values"),
            ("C|1", "O|2|s-2\rC|1", "several values"),
            ("C|1", "CC|1", "no record"),
            ("L|1|N\r", "", "no terminator"),
            ("L|1|N\r", "L|1|N\rH|\\^&\r", "after the terminator"),
            ("m-1", "ACGTACGTACGTACGTACGT", "sequence of bases"),
        ] {
            let fault = read(ORDER.replace(from, to).as_bytes(), true).1.unwrap_err();
            assert!(fault.message.contains(named), "{from} -> {to}: {fault:?}");
        }
        assert!(read(b"", true).1.is_err());
    }

    #[test]
    fn an_answer_is_preliminary_and_a_fault_says_what_and_why() {
        let Outcome::Answer(mut given) = crate::pipeline::tests::an_answer() else { panic!("no answer") };
        given.warnings = vec!["a|b\r\u{fc}".into()];
        (given.band, given.abstained) = (Band::Pathogenic, false);
        given.predicted_description = "computational prediction: towards pathogenic".into();
        let (head, _) = read(ORDER.as_bytes(), false);
        let text = String::from_utf8(answer(&head, &given, Some("BRCA1"), "20261126120000")).unwrap();
        let lines: Vec<&[u8]> = text.trim_end().split('\r').map(str::as_bytes).collect();
        assert_eq!(
            (field(lines[0], 2), field(lines[0], 9), field(lines[0], 13)),
            (&b"m-1"[..], &b"ANALYSER^1"[..], &b"20261126120000"[..])
        );
        assert_eq!((field(lines[2], 2), field(lines[2], 25)), (&b"s-1"[..], &b"P"[..]));
        assert!(text.contains("\rC|2|I|a&F&b??|G\r") && text.ends_with("\rL|1|N\r"), "{text}");
        for line in lines.iter().filter(|line| line.starts_with(b"R|")) {
            let value = String::from_utf8_lossy(field(line, 3)).to_lowercase();
            assert!(!value.contains("pathogenic") || value.contains("computational prediction"), "{value}");
            assert_eq!((field(line, 8), field(line, 12)), (&b"P"[..], &b"20261126120000"[..]));
        }
        let busy = Fault { retry_after_ms: Some(5), ..Fault::new(FaultCode::Busy, "x") };
        let text = String::from_utf8(fault(&head, "b", &busy, "t")).unwrap();
        assert!(text.ends_with("\rC|1|I|busy^x^retry_after_ms=5|G\rL|1|E\r"), "{text}");
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(at in 0_usize..240, bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut message = ORDER.as_bytes().to_vec();
            let at = at.min(message.len());
            message.splice(at..(at + bytes.len() / 2).min(message.len()), bytes);
            let _ = read(&message, true);
        }
    }
}
