//! What somebody types: a question in any of the forms that people have variants in, or a setting.

use locus_firmware_config::message::Request;

/// Fewest bases that are taken for a sequence and not for a name.
const SEQUENCE: usize = 20;
/// What `:help` says.
pub(super) const HELP: &[&str] = &[
    "chr17-43045705-T-A            a change on the box's reference",
    "LRG_292t1:c.5096G>A           the same by its HGVS name",
    "BRCA1 c.5096G>A               on the gene's first transcript",
    "chr17 43045705 . T A          a line of a VCF file, pasted",
    "GATTACA… A4T                  bases and a change in them",
    "GATTACA…                      bases alone, for a sequence model",
    ":explain on|off               what each base around the change contributes",
    ":assembly GRCh38|-            the assembly that variants are on",
    ":model NAME|-                 the model that must answer",
    ":subject PSEUDONYM|-          whom it is about",
    ":quit",
];

/// What goes along with every question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) explain: bool,
    pub(super) assembly: Option<String>,
    pub(super) model: Option<String>,
    pub(super) subject: Option<String>,
}

/// What a line means.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Typed {
    Ask(Box<Request>),
    /// A setting was changed; what it is now.
    Set(String),
    Help,
    Quit,
}

/// Reads a line that is not empty.
///
/// # Errors
/// It is neither a question nor a setting; in words.
pub(super) fn read(line: &str, settings: &mut Settings) -> Result<Typed, String> {
    let line = line.trim();
    if let Some(order) = line.strip_prefix(':') {
        return order_of(order, settings);
    }
    let request = Request {
        explain: settings.explain.then_some(true),
        assembly: settings.assembly.clone(),
        model: settings.model.clone(),
        subject: settings.subject.clone(),
        ..Request::default()
    };
    let variant = |variant: String| Request { variant: Some(variant), ..request.clone() };
    let words: Vec<&str> = line.split_whitespace().collect();
    let asked = match words[..] {
        [contig, position, _, reference, alternate, ..] if position.bytes().all(|b| b.is_ascii_digit()) => {
            if alternate.contains(',') {
                return Err(
                    "got a VCF line with several alternates, expected one; ask for each by itself".into()
                );
            }
            variant(format!("{contig}-{position}-{reference}-{alternate}"))
        }
        [sequence, mutation] if is_bases(sequence) && is_mutation(mutation) => Request {
            sequence: Some(sequence.to_ascii_uppercase()),
            mutation: Some(mutation.to_ascii_uppercase()),
            // The box reads no variant here: there is nothing that it could be on.
            assembly: None,
            ..request
        },
        [gene, change] if change.starts_with("c.") => {
            Request { gene: Some(gene.to_owned()), ..variant(change.to_owned()) }
        }
        [sequence] if sequence.len() >= SEQUENCE && is_bases(sequence) => {
            Request { sequence: Some(sequence.to_ascii_uppercase()), assembly: None, ..request }
        }
        [name] if name.contains('-') || name.contains(':') => variant(name.to_owned()),
        _ => {
            return Err(format!(
                "got {} words that are no question, expected such as chr17-43045705-T-A or BRCA1 c.5096G>A; :help shows all forms",
                words.len()
            ));
        }
    };
    Ok(Typed::Ask(Box::new(asked)))
}

fn order_of(order: &str, settings: &mut Settings) -> Result<Typed, String> {
    let (name, value) = order.split_once(char::is_whitespace).unwrap_or((order, ""));
    let value = value.trim();
    let kept = || (!matches!(value, "" | "-")).then(|| value.to_owned());
    let place = match name {
        "help" | "h" | "?" => return Ok(Typed::Help),
        "quit" | "q" => return Ok(Typed::Quit),
        "explain" => {
            settings.explain = match value {
                "on" => true,
                "off" => false,
                _ => return Err("got :explain, expected :explain on or :explain off".into()),
            };
            return Ok(Typed::Set(format!("explain {value}")));
        }
        "assembly" => &mut settings.assembly,
        "model" => &mut settings.model,
        "subject" => &mut settings.subject,
        _ => return Err("got a setting that is not there; :help shows all".into()),
    };
    *place = kept();
    Ok(Typed::Set(match place {
        // Whom it is about is not repeated on a screen that others see.
        Some(_) if name == "subject" => "subject is set".into(),
        Some(value) => format!("{name} {value}"),
        None => format!("{name} is not set"),
    }))
}

fn is_bases(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|b| matches!(b.to_ascii_uppercase(), b'A' | b'C' | b'G' | b'T' | b'U' | b'N'))
}

/// Such as `A4T`: letters, a number, letters.
fn is_mutation(word: &str) -> bool {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let digits = rest.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    rest.len() < word.len()
        && digits.len() < rest.len()
        && !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Request {
        match read(line, &mut Settings::default()) {
            Ok(Typed::Ask(request)) => *request,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_form_that_people_have_a_variant_in_is_read() {
        for (line, gene, variant) in [
            ("chr17-43045705-T-A", None, "chr17-43045705-T-A"),
            (" LRG_292t1:c.5096G>A ", None, "LRG_292t1:c.5096G>A"),
            ("BRCA1 c.5096G>A", Some("BRCA1"), "c.5096G>A"),
            ("chr17\t43045705\trs1\tT\tA\t.\tPASS\tX=1", None, "chr17-43045705-T-A"),
            ("17 43045705 . T A", None, "17-43045705-T-A"),
        ] {
            let request = asked(line);
            assert_eq!(
                (request.gene.as_deref(), request.variant.as_deref()),
                (gene, Some(variant)),
                "{line}"
            );
            assert!(request.sequence.is_none() && request.explain.is_none());
        }
        let request = asked("gattaca a4t");
        assert_eq!(
            (request.sequence.as_deref(), request.mutation.as_deref()),
            (Some("GATTACA"), Some("A4T"))
        );
        assert_eq!(asked(&"ACGT".repeat(5)).sequence.as_deref(), Some("ACGT".repeat(5).as_str()));
    }

    #[test]
    fn what_is_no_question_is_said_and_several_alternates_are_not_made_one() {
        for line in ["x", "BRCA1 p.Arg1699Gln or so", "chr1 5 . A C,T", ":colour red", ":explain", "GATTACA"]
        {
            assert!(read(line, &mut Settings::default()).is_err(), "{line}");
        }
    }

    #[test]
    fn settings_go_along_until_they_are_taken_back_and_an_assembly_not_with_bases() {
        let mut settings = Settings::default();
        for line in [":explain on", ":assembly GRCh38", ":model m", ":subject s-1"] {
            let said = read(line, &mut settings).unwrap();
            assert!(!format!("{said:?}").contains("s-1"));
        }
        let mut ask = |line: &str| match read(line, &mut settings) {
            Ok(Typed::Ask(request)) => *request,
            other => panic!("{other:?}"),
        };
        let request = ask("chr1-5-A-C");
        assert_eq!((request.explain, request.assembly.as_deref()), (Some(true), Some("GRCh38")));
        assert_eq!((request.model.as_deref(), request.subject.as_deref()), (Some("m"), Some("s-1")));
        assert!(ask("GATTACA A4T").assembly.is_none());
        read(":subject -", &mut settings).unwrap();
        read(":explain off", &mut settings).unwrap();
        assert_eq!((settings.subject, settings.explain), (None, false));
        assert_eq!(read(":q", &mut Settings::default()), Ok(Typed::Quit));
    }
}
