//! Times between the requests of people who know nothing of each other.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Gaps of a Poisson process: exponential, drawn from a seed, without end.
#[derive(Clone, Debug)]
pub struct Gaps {
    drawn: ChaCha8Rng,
    mean: Duration,
}

impl Gaps {
    /// With this mean; zero gives zeros.
    pub fn new(mean: Duration, seed: u64) -> Self {
        Self { drawn: ChaCha8Rng::seed_from_u64(seed), mean }
    }
}

impl Iterator for Gaps {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.mean.mul_f64(-(1.0 - self.drawn.random::<f64>()).ln()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_exponential_and_come_again_from_their_seed() {
        let drawn = |seed| Gaps::new(Duration::from_millis(10), seed).take(100_000);
        let ms: Vec<f64> = drawn(3).map(|gap| gap.as_secs_f64() * 1e3).collect();
        let mean = ms.iter().sum::<f64>() / ms.len() as f64;
        let deviation = (ms.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / ms.len() as f64).sqrt();
        // Both are 10 of an exponential distribution; their standard errors are 0.03 and 0.045 here.
        assert!((mean - 10.0).abs() < 0.2 && (deviation - 10.0).abs() < 0.3, "{mean} {deviation}");
        assert!(drawn(3).eq(drawn(3)) && !drawn(3).eq(drawn(4)));
        assert_eq!(Gaps::new(Duration::ZERO, 1).next(), Some(Duration::ZERO));
    }
}
