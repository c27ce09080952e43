//! What a cable does to what it carries, from a seed.

use std::time::Duration;

use serde::Serialize;

use super::CableArgs;
use crate::ctl::chance::Chance;

/// What ends a frame of Locus' serial protocol.
const DELIMITER: u8 = 0;
/// What is carried on though no frame ended.
const MAX_FRAME: usize = 4_096;

/// What was carried in one direction, and what was done to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) bytes: u64,
    pub(super) frames: u64,
    pub(super) flipped_bits: u64,
    pub(super) lost_bytes: u64,
    pub(super) doubled_bytes: u64,
    pub(super) lost_frames: u64,
    pub(super) doubled_frames: u64,
    pub(super) split_frames: u64,
    /// Sent while the other end was unplugged.
    pub(super) unplugged_bytes: u64,
}

/// One direction. Every kind of fault has its own stream of chance: a share that is added leaves the others as they were,
/// and how the system cuts what is read changes nothing.
#[derive(Debug)]
pub(super) struct Noise {
    shares: Shares,
    bits: Chance,
    bytes: Chance,
    frames: Chance,
    waiting: Vec<u8>,
    pub(super) counts: Counts,
}

#[derive(Clone, Copy, Debug)]
struct Shares {
    bit_errors: f64,
    lost_bytes: f64,
    doubled_bytes: f64,
    lost_frames: f64,
    doubled_frames: f64,
    split_frames: f64,
}

impl Noise {
    pub(super) fn new(args: &CableArgs, seed: u64) -> Self {
        Self {
            shares: Shares {
                bit_errors: args.bit_errors,
                lost_bytes: args.lost_bytes,
                doubled_bytes: args.doubled_bytes,
                lost_frames: args.lost_frames,
                doubled_frames: args.doubled_frames,
                split_frames: args.split_frames,
            },
            bits: Chance::new(seed),
            bytes: Chance::of(seed, 1),
            frames: Chance::of(seed, 2),
            waiting: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Whether bytes wait until it is known where their frame ends.
    pub(super) fn frames(&self) -> bool {
        let Shares { lost_frames, doubled_frames, split_frames, .. } = self.shares;
        lost_frames + doubled_frames + split_frames > 0.0
    }

    /// Whether something waits.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes what was read: what to write, in pieces with a pause before each that has one.
    pub(super) fn carry(&mut self, bytes: &[u8], pause: Duration) -> Vec<(Duration, Vec<u8>)> {
        self.counts.bytes += bytes.len() as u64;
        let bytes = self.spoil(bytes);
        if !self.frames() {
            self.counts.frames += bytes.iter().filter(|byte| **byte == DELIMITER).count() as u64;
            return vec![(Duration::ZERO, bytes)];
        }
        let mut out = Vec::new();
        for byte in bytes {
            self.waiting.push(byte);
            if byte == DELIMITER || self.waiting.len() >= MAX_FRAME {
                self.end_frame(pause, &mut out);
            }
        }
        out
    }

    /// Nothing more came: what waits is a frame of another protocol, or the beginning of one.
    pub(super) fn idle(&mut self, pause: Duration) -> Vec<(Duration, Vec<u8>)> {
        let mut out = Vec::new();
        self.end_frame(pause, &mut out);
        out
    }

    /// What waits is gone with the plug, and so many bytes more.
    pub(super) fn unplugged(&mut self, bytes: u64) {
        self.counts.unplugged_bytes += bytes + self.waiting.len() as u64;
        self.waiting.clear();
    }

    fn end_frame(&mut self, pause: Duration, out: &mut Vec<(Duration, Vec<u8>)>) {
        let frame = std::mem::take(&mut self.waiting);
        if frame.is_empty() {
            return;
        }
        self.counts.frames += 1;
        let happens = |chance: &mut Chance, share: f64| share > 0.0 && chance.happens(share);
        if happens(&mut self.frames, self.shares.lost_frames) {
            self.counts.lost_frames += 1;
            return;
        }
        let times = if happens(&mut self.frames, self.shares.doubled_frames) { 2 } else { 1 };
        self.counts.doubled_frames += times - 1;
        for _ in 0..times {
            if frame.len() > 1 && happens(&mut self.frames, self.shares.split_frames) {
                self.counts.split_frames += 1;
                let (one, other) = frame.split_at(1 + self.frames.below(frame.len() - 1));
                out.push((Duration::ZERO, one.to_vec()));
                out.push((pause, other.to_vec()));
            } else {
                out.push((Duration::ZERO, frame.clone()));
            }
        }
    }

    fn spoil(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Shares { bit_errors, lost_bytes, doubled_bytes, .. } = self.shares;
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            let mut byte = *byte;
            if bit_errors > 0.0 {
                for bit in 0..8 {
                    let flips = self.bits.happens(bit_errors);
                    byte ^= u8::from(flips) << bit;
                    self.counts.flipped_bits += u64::from(flips);
                }
            }
            if lost_bytes > 0.0 && self.bytes.happens(lost_bytes) {
                self.counts.lost_bytes += 1;
                continue;
            }
            out.push(byte);
            if doubled_bytes > 0.0 && self.bytes.happens(doubled_bytes) {
                self.counts.doubled_bytes += 1;
                out.push(byte);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        cable: CableArgs,
    }

    fn noise(options: &str) -> Noise {
        let line = Line::parse_from(format!("cable a b {options}").split_whitespace());
        Noise::new(&line.cable, 7)
    }

    fn carried(noise: &mut Noise, bytes: &[u8], at_once: usize) -> Vec<u8> {
        let mut out: Vec<_> =
            bytes.chunks(at_once).flat_map(|bytes| noise.carry(bytes, Duration::ZERO)).collect();
        out.extend(noise.idle(Duration::ZERO));
        out.into_iter().flat_map(|(_, bytes)| bytes).collect()
    }

    /// 2,000 frames of 50 bytes.
    fn sent() -> Vec<u8> {
        (0..2_000_u16).flat_map(|n| [[(n % 255) as u8 + 1; 49].as_slice(), &[0]].concat()).collect()
    }

    #[test]
    fn noise_flips_about_the_share_that_was_asked_for() {
        let mut flipping = noise("--bit-errors 1e-3");
        let out = carried(&mut flipping, &vec![0; 100_000], 4_096);
        let flipped: u32 = out.iter().map(|b: &u8| b.count_ones()).sum();
        assert!((600..1_000).contains(&flipped), "{flipped}");
        assert_eq!(flipping.counts.flipped_bits, u64::from(flipped));
        assert_eq!(carried(&mut noise(""), &sent(), 100), sent());
    }

    #[test]
    fn what_is_lost_and_doubled_is_counted_and_the_counts_are_true() {
        let sent = sent();
        let mut bytes = noise("--lost-bytes 1e-2 --doubled-bytes 2e-2");
        let out = carried(&mut bytes, &sent, 333);
        let counts = bytes.counts;
        assert!((800..1_200).contains(&counts.lost_bytes), "{counts:?}");
        assert!((1_700..2_300).contains(&counts.doubled_bytes), "{counts:?}");
        assert_eq!(out.len() as u64, sent.len() as u64 - counts.lost_bytes + counts.doubled_bytes);
        let mut frames = noise("--lost-frames 0.1 --doubled-frames 0.2 --split-frames 0.5");
        let out = carried(&mut frames, &sent, 333);
        let counts = frames.counts;
        assert_eq!(counts.frames, 2_000);
        assert!((140..260).contains(&counts.lost_frames), "{counts:?}");
        assert!((280..440).contains(&counts.doubled_frames), "{counts:?}");
        assert!(counts.split_frames > 800, "{counts:?}");
        assert_eq!(out.len() as u64, 50 * (2_000 - counts.lost_frames + counts.doubled_frames));
    }

    #[test]
    fn how_the_system_cuts_it_changes_nothing() {
        let options = "--bit-errors 1e-4 --lost-bytes 1e-3 --doubled-bytes 1e-3 --lost-frames 0.1 --doubled-frames 0.1 --split-frames 0.1";
        let (mut one, mut other) = (noise(options), noise(options));
        assert_eq!(carried(&mut one, &sent(), 4_096), carried(&mut other, &sent(), 7));
        assert_eq!(one.counts, other.counts);
    }
}
