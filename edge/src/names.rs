//! Names of sites, boxes and terminals, and the topics and files made of them.

use locus_firmware_config::message::{Fault, FaultCode};

/// Longest response topic, in bytes.
const MAX_TOPIC_BYTES: usize = 256;

/// Whether a text can be a topic level, a file name and a label at once.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Where terminals ask.
pub fn request_topic(site: &str, terminal: &str) -> String {
    format!("locus/v1/{site}/request/{terminal}")
}

/// Where a terminal is answered.
pub fn response_topic(site: &str, terminal: &str) -> String {
    format!("locus/v1/{site}/response/{terminal}")
}

/// Where a box says how it is.
pub fn status_topic(site: &str, name: &str) -> String {
    format!("locus/v1/{site}/status/{name}")
}

/// The terminal that a request's topic names.
pub fn terminal_of<'a>(site: &str, topic: &'a str) -> Option<&'a str> {
    let rest = topic.strip_prefix("locus/v1/")?.strip_prefix(site)?;
    rest.strip_prefix("/request/").filter(|terminal| is_name(terminal))
}

/// Where the answer goes: the asked-for topic if it is the terminal's own or below it.
///
/// # Errors
/// [`FaultCode::BadResponseTopic`] for any other: the box publishes it, so a broker's access list cannot see
/// that one terminal asked it to write to another.
pub fn answer_topic(site: &str, terminal: &str, asked: Option<&str>) -> Result<String, Fault> {
    let own = response_topic(site, terminal);
    let Some(asked) = asked else { return Ok(own) };
    let below = asked.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if below && asked.len() <= MAX_TOPIC_BYTES && !asked.bytes().any(|b| b < 0x20 || b == b'+' || b == b'#') {
        return Ok(asked.to_owned());
    }
    Err(Fault::new(
        FaultCode::BadResponseTopic,
        format!("got a response topic that is not this terminal's, expected {own} or one below it"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_terminals_own_response_topics_are_written_to() {
        let topic = |asked| answer_topic("s", "ward-3", asked);
        assert_eq!(topic(None).unwrap(), "locus/v1/s/response/ward-3");
        for own in ["locus/v1/s/response/ward-3", "locus/v1/s/response/ward-3/x/1"] {
            assert_eq!(topic(Some(own)).unwrap(), own);
        }
        for other in [
            "",
            "locus/v1/s/response/ward-30",
            "locus/v1/s/response/ward-4",
            "locus/v1/s/status/box",
            "locus/v1/s/response/ward-3/#",
            "locus/v1/s/response/ward-3/+",
            "locus/v1/s/response/ward-3/\u{0}",
        ] {
            assert_eq!(topic(Some(other)).unwrap_err().code, FaultCode::BadResponseTopic, "{other}");
        }
        assert!(topic(Some(&format!("locus/v1/s/response/ward-3/{}", "x".repeat(300)))).is_err());
    }

    #[test]
    fn a_terminal_is_one_plain_level() {
        assert_eq!(terminal_of("s", "locus/v1/s/request/ward-3"), Some("ward-3"));
        for bad in
            ["locus/v1/s/request/", "locus/v1/s/request/a/b", "locus/v1/t/request/a", "locus/v1/s/request/.."]
        {
            assert_eq!(terminal_of("s", bad), None, "{bad}");
        }
        assert!(!is_name("") && !is_name(&"x".repeat(65)) && !is_name("a b"));
    }
}
