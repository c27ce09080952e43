//! Fields between delimiters, as HL7 v2 and LIS02 have them: read where they lie, written with what is in them escaped.

use time::OffsetDateTime;

use crate::clock::Clock;

/// Now (UTC), as both protocols write it: year to second without separators.
pub(super) fn time(clock: &impl Clock) -> String {
    let seconds = i64::try_from(clock.unix_ms() / 1_000).unwrap_or(0);
    let now = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, time) = (now.date(), now.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", time.hour(), time.minute(), time.second())
}

/// Characters that part a field. What parts fields themselves is `|` in both protocols.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delimiters {
    pub(super) component: u8,
    pub(super) repetition: u8,
    pub(super) escape: u8,
    pub(super) subcomponent: Option<u8>,
}

/// Those that HL7 v2 recommends; others are not taken.
pub(super) const HL7: Delimiters =
    Delimiters { component: b'^', repetition: b'~', escape: b'\\', subcomponent: Some(b'&') };

/// A field of a segment, from 0 for what stands before the first `|`; empty where there is none.
pub(super) fn field(segment: &[u8], number: usize) -> &[u8] {
    segment.split(|&b| b == b'|').nth(number).unwrap_or_default()
}

impl Delimiters {
    /// A component of the first repetition of a field, from 1; empty where there is none.
    pub(super) fn component<'a>(&self, field: &'a [u8], number: usize) -> &'a [u8] {
        let first = field.split(|&b| b == self.repetition).next().unwrap_or_default();
        first.split(|&b| b == self.component).nth(number - 1).unwrap_or_default()
    }

    fn meant(&self, name: &[u8]) -> Option<u8> {
        match name {
            b"F" => Some(b'|'),
            b"S" => Some(self.component),
            b"R" => Some(self.repetition),
            b"E" => Some(self.escape),
            b"T" => self.subcomponent,
            _ => None,
        }
    }

    /// The text of a component. `None` where it holds anything but printable ASCII, subcomponents, or an escape
    /// sequence that does not stand for a delimiter.
    pub(super) fn text(&self, component: &[u8]) -> Option<String> {
        let mut text = String::with_capacity(component.len());
        let mut rest = component;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if byte == self.escape {
                let end = rest.iter().position(|&b| b == self.escape)?;
                text.push(char::from(self.meant(&rest[..end])?));
                rest = &rest[end + 1..];
            } else if (0x20..0x7f).contains(&byte) && Some(byte) != self.subcomponent {
                text.push(char::from(byte));
            } else {
                return None;
            }
        }
        let trimmed = text.trim_matches(' ');
        if trimmed.len() == text.len() { Some(text) } else { Some(trimmed.to_owned()) }
    }

    /// Appends a text as a component: delimiters escaped, what is not printable ASCII as `?`.
    pub(super) fn write(&self, out: &mut Vec<u8>, text: &str) {
        for letter in text.chars() {
            let byte = u8::try_from(letter).ok().filter(|b| (0x20..0x7f).contains(b)).unwrap_or(b'?');
            let name =
                [b'F', b'S', b'R', b'E', b'T'].into_iter().find(|name| self.meant(&[*name]) == Some(byte));
            match name {
                Some(name) => out.extend_from_slice(&[self.escape, name, self.escape]),
                None => out.push(byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn time_is_written_without_separators() {
        #[derive(Debug)]
        struct Fixed;
        impl Clock for Fixed {
            fn unix_ms(&self) -> u64 {
                1_790_000_000_999
            }
            fn monotonic_ms(&self) -> u64 {
                0
            }
        }
        assert_eq!(time(&Fixed), "20260921141320");
    }

    #[test]
    fn parts_are_found_and_what_is_not_there_is_empty() {
        let segment = b"OBX|1|ST|48004-6^name^LN~x|a";
        assert_eq!(field(segment, 0), b"OBX");
        assert_eq!(HL7.component(field(segment, 3), 1), b"48004-6");
        assert_eq!(HL7.component(field(segment, 3), 3), b"LN");
        assert_eq!(HL7.component(field(segment, 3), 4), b"");
        assert_eq!(field(segment, 9), b"");
        assert_eq!(HL7.component(b"", 1), b"");
    }

    #[test]
    fn what_is_escaped_is_read_and_what_cannot_be_is_refused() {
        assert_eq!(HL7.text(br" a\T\b\F\\S\\R\\E\ ").unwrap(), r"a&b|^~\");
        for bad in [&b"a&b"[..], br"\", br"\F", br"\H\", br"\X41\", b"\xff", b"\t", br"\\"] {
            assert_eq!(HL7.text(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_and_parts_nothing(text in "[!-~]{0,40}") {
            let mut out = Vec::new();
            HL7.write(&mut out, &text);
            prop_assert_eq!(field(&out, 0), &out[..]);
            prop_assert_eq!(HL7.component(&out, 1), &out[..]);
            prop_assert_eq!(HL7.text(&out), Some(text));
        }

        #[test]
        fn nothing_that_comes_in_is_too_much(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = HL7.text(HL7.component(field(&bytes, 1), 2));
        }
    }
}
