//! A line that flips bits: what it spoils is sent again, and nothing wrong is ever taken.
#![allow(clippy::unwrap_used, reason = "a test")]

#[allow(dead_code, reason = "each suite uses a part")]
mod harness;

use harness::{End, Peer, REQUEST, run_over};
use locus_firmware_config::{
    terminal::Patience,
    wire::{FrameType, Key, MAX_FRAME, MAX_PAYLOAD, decode, encode, fragments},
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const SEED: u64 = 20_261_126;
/// Times that something is sent again, at most.
const TRIES: u8 = 8;

/// Flips each bit with a probability, by drawing the distances between flips.
fn spoil(rng: &mut ChaCha8Rng, bit_errors: f64, frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let mut at = 0_f64;
    loop {
        at += (1.0 - rng.random::<f64>()).ln() / (1.0 - bit_errors).ln();
        let bit = at as usize;
        if bit >= frame.len() * 8 {
            return frame;
        }
        frame[bit / 8] ^= 1 << (bit % 8);
        at += 1.0;
    }
}

/// Answered, not answered; never anything else.
fn exchanges(count: u32, bit_errors: f64, key: Option<&Key>) -> (u32, u32) {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let patience = Patience { tries: TRIES, ..Patience::default() };
    let (mut answered, mut silent) = (0, 0);
    for _ in 0..count {
        let peer = Peer::new(0, key.cloned());
        let (end, peer) =
            run_over(&REQUEST, patience, peer, |frame| spoil(&mut rng, bit_errors, frame), usize::MAX);
        match end {
            End::Answer(bytes) => {
                assert!(peer.sent.contains(&bytes), "an answer that the box never gave");
                answered += 1;
            }
            End::TimedOut => silent += 1,
            End::Busy(_) => panic!("the box was not busy"),
        }
    }
    println!(
        "seed {SEED}, bit errors {bit_errors:e}, with a key: {}: {answered} of {count} answered in {TRIES} tries or fewer, {silent} told as lost, 0 wrong",
        key.is_some()
    );
    (answered, silent)
}

fn frames_are_refused(count: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let message: Vec<u8> = (0..3 * MAX_PAYLOAD + 17).map(|_| rng.random()).collect();
    let frames: Vec<Vec<u8>> = fragments(FrameType::Answer, 7, 9, &message)
        .unwrap()
        .map(|frame| {
            let mut out = [0; MAX_FRAME];
            let n = encode(&frame, &mut out).unwrap();
            out[..n - 1].to_vec()
        })
        .collect();
    let (mut same, mut refused) = (0_u64, 0_u64);
    for n in 0..count {
        let whole = &frames[n as usize % frames.len()];
        let mut spoilt = whole.clone();
        // Single bits, several bits, and bursts.
        match n % 3 {
            0 => spoilt[rng.random_range(0..whole.len())] ^= 1 << rng.random_range(0..8),
            1 => (0..rng.random_range(2..20))
                .for_each(|_| spoilt[rng.random_range(0..whole.len())] ^= rng.random::<u8>()),
            _ => {
                let at = rng.random_range(0..whole.len());
                let end = whole.len().min(at + rng.random_range(1..60));
                rng.fill(&mut spoilt[at..end]);
            }
        }
        if spoilt == *whole {
            same += 1;
            continue;
        }
        assert!(decode(&mut spoilt).is_err(), "frame {n} was taken");
        refused += 1;
    }
    println!("seed {SEED}: {refused} corrupted frames refused, 0 taken ({same} draws changed nothing)");
}

#[test]
fn corrupted_frames_are_refused() {
    frames_are_refused(200_000);
}

#[test]
#[ignore = "ten million corrupted frames"]
fn ten_million_corrupted_frames_are_refused() {
    frames_are_refused(10_500_000);
}

#[test]
fn on_a_noisy_line_nothing_is_wrong_and_almost_all_is_answered() {
    let key = Key::new([5; 32]);
    for key in [None, Some(&key)] {
        let (answered, _) = exchanges(2_000, 1e-4, key);
        assert!(answered >= 1_998, "{answered}");
        let (answered, silent) = exchanges(300, 1e-3, key);
        assert!(answered + silent == 300 && silent > 0);
    }
}

#[test]
#[ignore = "200,000 exchanges over a noisy line"]
fn on_a_noisy_line_all_but_one_of_ten_thousand_are_answered() {
    let (answered, _) = exchanges(200_000, 1e-4, None);
    assert!(f64::from(answered) >= 0.9999 * 200_000.0, "{answered}");
}
