//! What is read of an HL7 v2 message: an ORU^R01 with one variant, or the acknowledgement of an answer.

use locus_firmware_config::message::{Fault, FaultCode, MAX_MESSAGE_BYTES, Request};

use crate::transport::{
    fields::{HL7, field},
    observed::{Asked, NO_VARIANT, Once, SEVERAL, is_listed},
};

/// Longest field that is repeated in an answer, in bytes.
const MAX_REPEATED: usize = 250;

/// What an answer repeats of the message that it answers, as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Sending application and facility.
    pub(super) from: [Vec<u8>; 2],
    /// Control id.
    pub(super) control: Vec<u8>,
    /// Processing id.
    pub(super) processing: Vec<u8>,
    /// Version.
    pub(super) version: Vec<u8>,
    /// Character set.
    pub(super) charset: Vec<u8>,
    /// Identifiers of the patient.
    pub(super) patient: Vec<u8>,
    /// Order numbers of placer and filler.
    pub(super) order: [Vec<u8>; 2],
}

/// Why a message is not answered, in words of HL7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// `AE`: correct it; `AR`: not because of what is in it.
    pub(super) acknowledge: &'static str,
    /// Code of table 0357.
    pub(super) condition: u16,
    /// Segment and field.
    pub(super) place: &'static str,
    /// The fault.
    pub(super) fault: Fault,
}

/// A message.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// A question.
    Order(Box<Head>, Result<Box<Request>, Box<Refusal>>),
    /// Whether the answer with this control id was taken.
    Acknowledged { of: Vec<u8>, taken: bool },
}

impl Refusal {
    fn bad(place: &'static str, condition: u16, message: impl Into<String>) -> Box<Self> {
        let fault = Fault::new(FaultCode::BadRequest, message);
        Box::new(Self { acknowledge: "AE", condition, place, fault })
    }

    fn rejected(place: &'static str, condition: u16, message: &str) -> Box<Self> {
        Box::new(Self { acknowledge: "AR", ..*Self::bad(place, condition, message) })
    }

    /// A fault of the pipeline.
    pub(super) fn of(fault: &Fault) -> Self {
        let condition = match fault.code {
            FaultCode::IdReused => 205,
            FaultCode::UnknownContig | FaultCode::UnknownTranscript | FaultCode::UnknownModel => 204,
            code if code.retryable() || code.http_status() == 500 => 207,
            _ => 102,
        };
        let acknowledge = if condition == 207 { "AR" } else { "AE" };
        Self { acknowledge, condition, place: "", fault: fault.clone() }
    }

    /// Another message came before an answer was acknowledged.
    pub(super) fn out_of_turn() -> Self {
        let message = "got a message before the answer to the last one was acknowledged, expected one at a time; acknowledge the answer, then send it again";
        Self { fault: Fault::new(FaultCode::Busy, message), ..*Self::rejected("MSH", 207, "") }
    }

    pub(super) fn too_large(len: usize) -> Self {
        let message =
            format!("got {len} bytes, expected at most {MAX_MESSAGE_BYTES}; send the variant alone");
        Self { fault: Fault::new(FaultCode::TooLarge, message), ..*Self::bad("MSH", 207, "") }
    }

    pub(super) fn broken() -> Self {
        let message = "got a block that is cut off or ends in the middle, expected 0x0B, the message, 0x1C, 0x0D; send it again";
        *Self::rejected("MSH", 207, message)
    }
}

/// Segments, in order, without empty ones.
fn segments(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = message.split(|&b| b == b'\r').map(|line| line.strip_prefix(b"\n").unwrap_or(line));
    lines.filter(|line| !line.is_empty())
}

/// A field that is short and cannot be taken for another part of a message.
fn repeated(segment: &[u8], number: usize) -> Vec<u8> {
    let value = field(segment, number);
    if value.len() <= MAX_REPEATED { value.to_vec() } else { Vec::new() }
}

/// What can be said of a message whose rest is not read.
pub(super) fn head(message: &[u8]) -> Head {
    let Some(msh) = segments(message).next().filter(|line| line.starts_with(br"MSH|^~\&")) else {
        return Head::default();
    };
    if msh.iter().any(|&b| b < 0x20) {
        return Head::default();
    }
    // The separator itself is the first field of this segment.
    Head {
        from: [repeated(msh, 2), repeated(msh, 3)],
        control: repeated(msh, 9),
        processing: repeated(msh, 10),
        version: repeated(msh, 11),
        charset: repeated(msh, 17),
        ..Head::default()
    }
}

/// Reads a message; `None` where it is none that anything can be said to.
pub(super) fn read(message: &[u8], patient_as_subject: bool) -> Option<Heard> {
    let mut head = head(message);
    let msh = segments(message).next()?;
    let (kind, event) = (HL7.component(field(msh, 8), 1), HL7.component(field(msh, 8), 2));
    if msh.starts_with(b"MSH|") && kind == b"ACK" {
        let msa = segments(message).find(|line| line.starts_with(b"MSA|"))?;
        let taken = matches!(field(msa, 1), b"AA" | b"CA");
        return Some(Heard::Acknowledged { of: field(msa, 2).to_vec(), taken });
    }
    let request = known(message, msh, &head, kind, event)
        .and_then(|()| request(message, &mut head, patient_as_subject))
        .map(Box::new);
    Some(Heard::Order(Box::new(head), request))
}

/// Whether it is a message that is read here.
fn known(message: &[u8], msh: &[u8], head: &Head, kind: &[u8], event: &[u8]) -> Result<(), Box<Refusal>> {
    if !msh.starts_with(b"MSH|") {
        return Err(Refusal::rejected(
            "MSH",
            100,
            "got no MSH segment at the start, expected an HL7 v2 message",
        ));
    }
    if !msh.starts_with(br"MSH|^~\&|") && !msh.starts_with(br"MSH|^~\&#|") {
        let message = r"got other delimiters, expected |^~\&; have the sender use them";
        return Err(Refusal::rejected("MSH^1^2", 102, message));
    }
    let after = |at: usize| at.checked_sub(1).map(|before| message[before]);
    let mut bytes = message.iter().enumerate();
    if bytes.any(|(at, &b)| b < 0x20 && b != b'\r' && !(b == b'\n' && after(at) == Some(b'\r'))) {
        let message = "got a control character in the message, expected none but the ends of segments";
        return Err(Refusal::bad("MSH", 102, message));
    }
    if kind != b"ORU" {
        return Err(Refusal::rejected("MSH^1^9", 200, "got another message type, expected ORU^R01"));
    }
    if event != b"R01" {
        return Err(Refusal::rejected("MSH^1^9", 201, "got another event, expected ORU^R01"));
    }
    if !head.version.starts_with(b"2.") {
        return Err(Refusal::rejected("MSH^1^12", 203, "got no version 2 of HL7, expected 2.x"));
    }
    let charset = HL7.component(&head.charset, 1);
    if !charset.is_empty()
        && charset != b"ASCII"
        && charset != b"UNICODE UTF-8"
        && !charset.starts_with(b"8859/")
    {
        let message = "got a character set in which a letter may look like a delimiter, expected ASCII, 8859/1 to 8859/15 or UNICODE UTF-8";
        return Err(Refusal::rejected("MSH^1^18", 103, message));
    }
    Ok(())
}

fn request(message: &[u8], head: &mut Head, patient_as_subject: bool) -> Result<Request, Box<Refusal>> {
    let id = HL7.text(HL7.component(&head.control, 1)).filter(|id| !id.is_empty());
    if id.is_none() {
        return Err(Refusal::bad("MSH^1^10", 101, "got no control id, expected one that is used once"));
    }
    let (mut asked, mut patient, mut order) = (Asked::default(), Once::default(), [Vec::new(), Vec::new()]);
    for segment in segments(message).skip(1) {
        let name = field(segment, 0);
        if name.len() != 3 || !name.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) {
            return Err(Refusal::bad("", 100, "got a line that is no segment, expected three letters and |"));
        }
        match name {
            b"PID" => {
                let value =
                    HL7.text(HL7.component(field(segment, 3), 1)).ok_or_else(|| unreadable("PID^1^3"))?;
                if !patient.take(value) {
                    return Err(Refusal::bad("PID", 207, SEVERAL));
                }
                head.patient = repeated(segment, 3);
            }
            b"OBR" => order = [repeated(segment, 2), repeated(segment, 3)],
            // Deleted, withdrawn, not obtained: not there.
            b"OBX"
                if !matches!(field(segment, 11), b"D" | b"N" | b"W" | b"X")
                    && observe(&mut asked, segment)? =>
            {
                head.order.clone_from(&order);
            }
            _ => {}
        }
    }
    let subject = patient.0.filter(|_| patient_as_subject);
    let request = asked.request(id, subject).ok_or_else(|| Refusal::bad("OBX^1^3", 101, NO_VARIANT))?;
    request.check().map_err(|fault| Box::new(Refusal::of(&fault)))
}

fn unreadable(place: &'static str) -> Box<Refusal> {
    let message = "got a value that is not printable ASCII or holds subcomponents or other escapes than of delimiters, expected plain text";
    Refusal::bad(place, 102, message)
}

/// Takes what one observation says; whether that is the variant.
fn observe(asked: &mut Asked, segment: &[u8]) -> Result<bool, Box<Refusal>> {
    let (named, value) = (field(segment, 3), field(segment, 5));
    let code = HL7.component(named, 1);
    let Some((place, is_variant)) = asked.place(code, Some(HL7.component(named, 3))) else {
        return Ok(false);
    };
    if value.contains(&HL7.repetition) {
        return Err(Refusal::bad("OBX^1^5", 102, "got several values in one field, expected one"));
    }
    let part = |number| HL7.text(HL7.component(value, number)).ok_or_else(|| unreadable("OBX^1^5"));
    let mut text = part(1)?;
    if text.is_empty() || is_listed(code, &text) {
        text = part(2)?;
    }
    if text.is_empty() {
        return Ok(false);
    }
    if !place.take(text) {
        return Err(Refusal::bad("OBX^1^5", 207, SEVERAL));
    }
    Ok(is_variant)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORDER: &str = "MSH|^~\\&|LAB|ST|LOCUS|B|20260101||ORU^R01^ORU_R01|m-1|P|2.5.1\rPID|1||12^^^H||N^\u{e9}\rOBR|1|p1|f1|51969-4^x^LN\rOBX|1|CWE|48018-6^Gene^LN||HGNC:1100^BRCA1^HGNC\rOBX|2|CWE|48004-6^c^LN||NM_007294.4:c.5096G>A^^HGVS\rOBX|3|CWE|62374-4^a^LN||LA26806-2^GRCh38^LN\r";

    fn order(text: &str) -> (Box<Head>, Result<Box<Request>, Box<Refusal>>) {
        match read(text.as_bytes(), true) {
            Some(Heard::Order(head, request)) => (head, request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_becomes_a_request() {
        let (head, request) = order(ORDER);
        let request = request.unwrap();
        assert_eq!(request.id.as_deref(), Some("m-1"));
        assert_eq!(request.variant.as_deref(), Some("NM_007294.4:c.5096G>A"));
        assert_eq!((request.gene.as_deref(), request.assembly.as_deref()), (Some("BRCA1"), Some("GRCh38")));
        assert_eq!(request.subject.as_deref(), Some("12"));
        assert_eq!((&head.patient[..], &head.order[1][..]), (&b"12^^^H"[..], &b"f1"[..]));
        let Some(Heard::Order(_, request)) = read(ORDER.replace('\r', "\r\n").as_bytes(), false) else {
            panic!()
        };
        assert_eq!(request.unwrap().subject, None);
        let local = format!("{ORDER}OBX|4|ST|variant^v^99LOCUS||chr17-43045705-T-A\r");
        assert_eq!(order(&local).1.unwrap().variant.as_deref(), Some("chr17-43045705-T-A"));
        let genomic = ORDER
            .replace("48004-6", "81290-9")
            .replace("NM_007294.4:c.5096G>A", "NC_000017.11:g.43045705T>A");
        assert_eq!(order(&genomic).1.unwrap().variant.as_deref(), Some("NC_000017.11:g.43045705T>A"));
    }

    #[test]
    fn what_cannot_be_taken_is_refused_with_its_place() {
        for (from, to, acknowledge, condition, place) in [
            ("MSH|^~\\&", "MSH|^~\\$", "AR", 102, "MSH^1^2"),
            ("MSH|", "MSG|", "AR", 100, "MSH"),
            ("ORU^R01", "ORM^O01", "AR", 200, "MSH^1^9"),
            ("ORU^R01", "ORU^R30", "AR", 201, "MSH^1^9"),
            ("2.5.1", "3.0", "AR", 203, "MSH^1^12"),
            ("2.5.1", "2.5.1||||||UNICODE UTF-16", "AR", 103, "MSH^1^18"),
            ("m-1", "", "AE", 101, "MSH^1^10"),
            ("\u{e9}", "\t", "AE", 102, "MSH"),
            ("\u{e9}", "\n", "AE", 102, "MSH"),
            ("OBR|", "obr|", "AE", 100, ""),
            ("48004-6", "48004-7", "AE", 101, "OBX^1^3"),
            ("48004-6^c^LN", "48004-6^c^L", "AE", 101, "OBX^1^3"),
            ("^^HGVS", "||||||X", "AE", 101, "OBX^1^3"),
            (":c.5096G>A", ":c.5096G>A~c.1A>G", "AE", 102, "OBX^1^5"),
            (":c.5096G>A", ":c.5096&G", "AE", 102, "OBX^1^5"),
            (":c.5096G>A", ":c.\\H\\", "AE", 102, "OBX^1^5"),
            ("OBR|1", "PID|2||13\rOBR|1", "AE", 207, "PID"),
            ("OBX|3", "OBX|9|ST|48004-6^^LN||c.1A>G\rOBX|3", "AE", 207, "OBX^1^5"),
        ] {
            let refusal = order(&ORDER.replace(from, to)).1.unwrap_err();
            let got = (refusal.acknowledge, refusal.condition, refusal.place);
            assert_eq!(got, (acknowledge, condition, place), "{from} -> {to}: {refusal:?}");
        }
        assert!(read(b"", false).is_none());
        let refusal = order(&ORDER.replace("m-1", &"x".repeat(70))).1.unwrap_err();
        assert_eq!((refusal.acknowledge, refusal.fault.code), ("AE", FaultCode::BadRequest));
    }

    #[test]
    fn acknowledgements_are_never_questions() {
        let ack = "MSH|^~\\&|LAB|ST|LOCUS|B|20260101||ACK^R01|a-1|P|2.5.1\rMSA|AA|m-7\r";
        let taken = |text: &str| read(text.as_bytes(), false);
        assert_eq!(taken(ack), Some(Heard::Acknowledged { of: b"m-7".to_vec(), taken: true }));
        assert_eq!(
            taken(&ack.replace("|AA|", "|AE|")),
            Some(Heard::Acknowledged { of: b"m-7".to_vec(), taken: false })
        );
        assert_eq!(taken(&ack.replace("MSA|", "MSB|")), None);
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(at in 0_usize..300, bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut message = ORDER.as_bytes().to_vec();
            let at = at.min(message.len());
            message.splice(at..(at + bytes.len() / 2).min(message.len()), bytes);
            let _ = read(&message, true);
        }
    }
}
