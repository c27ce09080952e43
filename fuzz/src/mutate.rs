//! Changes files as bad disks, bad lines and attackers do, from a seed.

/// SplitMix64 (Steele, Lea, Flood 2014): small, fast, and enough to draw changes.
#[derive(Clone, Copy, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The numbers of one case of a seed.
    pub fn of(seed: u64, case: u64) -> Self {
        let mut draw = Self(seed ^ case.wrapping_mul(0xD1B5_4A32_D192_ED03));
        draw.next();
        draw
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 where that is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % (n as u64).max(1)) as usize
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    /// A range of at most `most` bytes in `len`.
    fn range(&mut self, len: usize, most: usize) -> std::ops::Range<usize> {
        let from = self.below(len);
        from..from + self.below((len - from).min(most) + 1)
    }
}

/// Numbers at which code breaks.
const EDGES: [u64; 18] = [
    0,
    1,
    2,
    3,
    127,
    128,
    255,
    256,
    32_767,
    32_768,
    65_535,
    65_536,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 32,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Texts at which code breaks.
const TEXTS: [&str; 14] = [
    "-1",
    "0",
    "9223372036854775807",
    "18446744073709551616",
    "1e999",
    "1e308",
    "NaN",
    "null",
    "\0",
    "\u{feff}",
    "é",
    "\u{1F9EC}",
    "\r\n",
    "../",
];

/// One case: a file of the corpus with one change to eight.
pub fn case(files: &[Vec<u8>], words: &[&str], longest: usize, draw: &mut Draw) -> Vec<u8> {
    let mut bytes = draw.pick(files).cloned().unwrap_or_default();
    for _ in 0..1 + draw.next().trailing_zeros().min(7) {
        change(&mut bytes, files, words, draw);
        bytes.truncate(longest);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, files: &[Vec<u8>], words: &[&str], draw: &mut Draw) {
    let len = bytes.len();
    match draw.below(14) {
        0 | 1 if len > 0 => bytes[draw.below(len)] ^= 1 << draw.below(8),
        2 if len > 0 => bytes[draw.below(len)] = draw.next() as u8,
        3 if len > 0 => {
            bytes.drain(draw.range(len, 64));
        }
        4 => bytes.truncate(draw.below(len + 1)),
        5 => {
            let range = draw.range(len, 256);
            let (at, again) = (range.start, bytes[range].to_vec());
            bytes.splice(at..at, again);
        }
        6 => {
            // Long repetitions find what grows faster than it is fed.
            let part = bytes[draw.range(len, 16)].to_vec();
            let (at, times) = (draw.below(len + 1), 1 << draw.below(13));
            bytes.splice(at..at, part.repeat(times));
        }
        7 => {
            let other = draw.pick(files).map_or(&[][..], Vec::as_slice);
            let part = other[draw.range(other.len(), 1_024)].to_vec();
            let (at, over) = (draw.below(len + 1), draw.below(2) * part.len());
            bytes.splice(at..(at + over).min(len), part);
        }
        8 => {
            // The front of one file and the back of another.
            let other = draw.pick(files).map_or(&[][..], Vec::as_slice);
            bytes.truncate(draw.below(len + 1));
            bytes.extend(&other[draw.below(other.len() + 1)..]);
        }
        9 => {
            let edge = EDGES[draw.below(EDGES.len())];
            let (mut number, width) = (edge.to_le_bytes(), 1 << draw.below(4));
            let number = &mut number[..width];
            if draw.below(2) == 0 {
                number.reverse();
            }
            let at = draw.below(len + 1);
            bytes.splice(at..(at + width).min(len), number.iter().copied());
        }
        10 => {
            // A number of text by another one.
            let from = draw.below(len + 1);
            let digit = |b: &u8| b.is_ascii_digit();
            if let Some(at) = bytes[from..].iter().position(digit).map(|at| from + at) {
                let end = bytes[at..].iter().position(|b| !digit(b)).map_or(len, |end| at + end);
                let edge = EDGES[draw.below(EDGES.len())].to_string();
                bytes.splice(at..end, edge.into_bytes());
            }
        }
        11 | 12 => {
            let all = words.len() + TEXTS.len();
            let n = draw.below(all);
            let word = words.get(n).or_else(|| TEXTS.get(n - words.len())).copied().unwrap_or_default();
            let (at, over) = (draw.below(len + 1), draw.below(2) * word.len());
            bytes.splice(at..(at + over).min(len), word.bytes());
        }
        _ => {
            let (a, b) = (draw.below(len), draw.below(len));
            if len > 0 {
                bytes.swap(a, b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_the_same_every_time_and_another_for_another_number() {
        let files = vec![b"GET /1234".to_vec(), vec![7; 300], Vec::new()];
        let made = |n| case(&files, &["word"], 2_000, &mut Draw::of(3, n));
        let all: Vec<_> = (0..2_000).map(made).collect();
        assert_eq!(all, (0..2_000).map(made).collect::<Vec<_>>());
        let mut different = all.clone();
        different.sort();
        different.dedup();
        assert!(different.len() > 1_200, "{}", different.len());
        assert!(all.iter().all(|bytes| bytes.len() <= 2_000));
        assert!(all.iter().any(|bytes| bytes.windows(4).any(|part| part == b"word")));
    }
}
