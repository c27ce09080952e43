//! Times of many runs, and what is said of them.

use std::time::Duration;

/// Blocks in which a percentile is taken again, to say how much it moves.
const BLOCKS: usize = 4;

/// Times in the order in which they were taken.
#[derive(Default)]
pub(crate) struct Sample {
    times_ms: Vec<f64>,
}

/// The value below which a share of the times lies (nearest rank).
fn percentile(times: &[f64], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// Median, least and most of a value of each round, of which there is one at least.
pub(crate) fn summary(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

impl Sample {
    pub(crate) fn push(&mut self, time: Duration) {
        self.times_ms.push(time.as_secs_f64() * 1e3);
    }

    pub(crate) fn len(&self) -> usize {
        self.times_ms.len()
    }

    pub(crate) fn percentile(&self, share: f64) -> f64 {
        percentile(&self.times_ms, share)
    }

    /// The same percentile in each quarter of the run, from least to most.
    pub(crate) fn spread(&self, share: f64) -> String {
        let block = self.times_ms.len().div_ceil(BLOCKS).max(1);
        let each: Vec<f64> = self.times_ms.chunks(block).map(|times| percentile(times, share)).collect();
        let (least, most) =
            each.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), t| (l.min(*t), m.max(*t)));
        format!("{least:.3} to {most:.3} over {} quarters of {} runs", each.len(), self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut sample = Sample::default();
        for ms in (1..=100).rev() {
            sample.push(Duration::from_millis(ms));
        }
        assert_eq!(
            (sample.percentile(0.5), sample.percentile(0.99), sample.percentile(1.0)),
            (50.0, 99.0, 100.0)
        );
        assert_eq!(sample.spread(0.5), "13.000 to 88.000 over 4 quarters of 100 runs");
    }
}
