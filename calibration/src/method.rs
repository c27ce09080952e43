//! How a range is chosen from what was seen.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Observed, Range,
    histogram::{BINS, Histogram},
};

/// Positive codes of 8 signed bits.
const LEVELS: usize = 128;

/// A range estimator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Everything that was seen (Jacob et al. 2018).
    MinMax,
    /// A running mean of each batch's largest value, 0.9 of it kept (Krishnamoorthi 2018).
    MovingAverage,
    /// So much of the values, in per cent: 99.9 to 99.999 cut outliers off.
    Percentile(f64),
    /// The smallest Kullback-Leibler divergence of the quantised distribution (Migacz 2017).
    Entropy,
    /// The smallest mean squared error of rounding and cutting off (Banner et al. 2019).
    MeanSquare,
}

impl Method {
    /// Those that are tried where none is named.
    pub const ALL: [Self; 7] = [
        Self::MinMax,
        Self::MovingAverage,
        Self::Percentile(99.9),
        Self::Percentile(99.99),
        Self::Percentile(99.999),
        Self::Entropy,
        Self::MeanSquare,
    ];

    /// The range of an activation; `None` where nothing was seen.
    pub fn range(self, seen: &Observed) -> Option<Range> {
        let whole = seen.min_max().range()?;
        let largest = match self {
            Self::MinMax => return Some(whole),
            Self::MovingAverage => seen.moving_average()?,
            Self::Percentile(p) => percentile(seen.histogram(), p),
            Self::Entropy => entropy(seen.histogram()),
            Self::MeanSquare => mean_square(seen.histogram()),
        };
        Some(Range { min: whole.min.max(-largest), max: whole.max.min(largest) })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinMax => f.write_str("min-max"),
            Self::MovingAverage => f.write_str("moving-average"),
            Self::Percentile(p) => write!(f, "percentile-{p}"),
            Self::Entropy => f.write_str("entropy"),
            Self::MeanSquare => f.write_str("mean-square"),
        }
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percentile = |p: &str| p.parse::<f64>().ok().filter(|p| (90.0..=100.0).contains(p));
        Ok(match text {
            "min-max" => Self::MinMax,
            "moving-average" => Self::MovingAverage,
            "entropy" => Self::Entropy,
            "mean-square" => Self::MeanSquare,
            _ => Self::Percentile(text.strip_prefix("percentile-").and_then(percentile).ok_or_else(|| {
                format!(
                    "got {text}, expected min-max, moving-average, percentile-P (P from 90 to 100), entropy or mean-square"
                )
            })?),
        })
    }
}

impl Serialize for Method {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Bound under which `p` per cent of the values lie.
fn percentile(h: &Histogram, p: f64) -> f32 {
    let wanted = h.total() as f64 * p / 100.0;
    let mut seen = 0.0;
    for (bin, &count) in h.counts().iter().enumerate() {
        seen += count as f64;
        if seen >= wanted {
            return h.bound(bin + 1);
        }
    }
    h.top()
}

/// Bound whose distribution over [`LEVELS`] codes diverges least from that of the values, those beyond it counted in
/// its last bin. Zeros, which every range holds exactly, would drown the others: the first bin counts as its neighbour.
fn entropy(h: &Histogram) -> f32 {
    let mut counts = h.counts().to_vec();
    counts[0] = counts[1];
    let counts = &counts;
    let best = (LEVELS..=BINS).min_by(|&a, &b| divergence(counts, a).total_cmp(&divergence(counts, b)));
    h.bound(best.unwrap_or(BINS))
}

fn divergence(counts: &[u64], bins: usize) -> f64 {
    let inside = &counts[..bins];
    let beyond: u64 = counts[bins..].iter().sum();
    let total = (inside.iter().sum::<u64>() + beyond) as f64;
    if total == 0.0 {
        return f64::INFINITY;
    }
    let mut sum = 0.0;
    let mut quantised_total = 0.0;
    let mut terms = Vec::with_capacity(bins);
    for level in 0..LEVELS {
        let (from, to) = (level * bins / LEVELS, (level + 1) * bins / LEVELS);
        let group = &inside[from..to];
        let count: u64 = group.iter().sum();
        let filled = group.iter().filter(|c| **c > 0).count();
        for (bin, &c) in group.iter().enumerate() {
            let outliers = if from + bin == bins - 1 { beyond } else { 0 };
            let p = (c + outliers) as f64;
            let q = if c > 0 { count as f64 / filled as f64 } else { 0.0 };
            quantised_total += q;
            terms.push((p, q));
        }
    }
    for (p, q) in terms {
        if p > 0.0 {
            // What has no code at all is as far as a smallest count can say.
            let q = (q / quantised_total.max(1.0)).max(1.0 / (total * BINS as f64));
            sum += p / total * (p / total / q).ln();
        }
    }
    sum
}

/// Bound with the least squared error: inside it a twelfth of the squared step, beyond it the squared distance.
fn mean_square(h: &Histogram) -> f32 {
    let (counts, width) = (h.counts(), f64::from(h.top()) / BINS as f64);
    let error = |bins: usize| {
        let bound = width * bins as f64;
        let step = bound / (LEVELS - 1) as f64;
        let inside: u64 = counts[..bins].iter().sum();
        let beyond: f64 = counts[bins..]
            .iter()
            .enumerate()
            .map(|(i, &c)| c as f64 * (width * (i as f64 + 0.5)).powi(2))
            .sum();
        inside as f64 * step * step / 12.0 + beyond
    };
    let best = (LEVELS..=BINS).min_by(|&a, &b| error(a).total_cmp(&error(b)));
    h.bound(best.unwrap_or(BINS))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bell of deviation 1, by the sum of twelve uniform numbers, and one outlier.
    fn bell(outlier: f32) -> Observed {
        let mut state = 7u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let mut seen = Observed::default();
        for batch in 0..10 {
            let mut values: Vec<f32> =
                (0..10_000).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
            if batch == 9 {
                values.push(outlier);
            }
            seen.observe(&values, 1).unwrap();
        }
        seen
    }

    fn largest(method: Method, seen: &Observed) -> f32 {
        let range = method.range(seen).unwrap();
        range.max.max(-range.min)
    }

    #[test]
    fn an_outlier_sets_min_max_and_weighs_little_elsewhere() {
        let seen = bell(40.0);
        assert_eq!(largest(Method::MinMax, &seen), 40.0);
        // A tenth of one batch in ten: 0.9 of about 4 and 0.1 of 40.
        let moving = largest(Method::MovingAverage, &seen);
        assert!((6.0..9.0).contains(&moving), "{moving}");
        // Its own squared error weighs as much as the rounding of all the others: 40 / (1 + 10^5 / (12 · 127²)).
        let square = largest(Method::MeanSquare, &seen);
        assert!((square - 26.4).abs() < 0.5, "{square}");
        for method in [Method::Percentile(99.9), Method::Entropy] {
            let bound = largest(method, &seen);
            assert!((2.0..8.0).contains(&bound), "{method}: {bound}");
        }
        // 99.9 % of a bell lie within 3.29 deviations; a bin is 0.02 wide.
        assert!((largest(Method::Percentile(99.9), &seen) - 3.29).abs() < 0.15);
        assert!(largest(Method::Percentile(100.0), &seen) >= 40.0);
    }

    #[test]
    fn the_least_squared_error_is_that_of_quantising() {
        let seen = bell(0.0);
        let bound = largest(Method::MeanSquare, &seen);
        // Error of a bell of deviation 1 cut at `t`, over a fine grid.
        let of = |t: f64| -> f64 {
            let step = t / 127.0;
            (0..120_000)
                .map(|i| {
                    let x = f64::from(i) / 10_000.0;
                    let weight = (-x * x / 2.0).exp();
                    let q = (x / step).round().min(127.0) * step;
                    weight * (x - q).powi(2)
                })
                .sum()
        };
        let best = (20..120).map(|i| f64::from(i) / 10.0).min_by(|a, b| of(*a).total_cmp(&of(*b))).unwrap();
        assert!((f64::from(bound) - best).abs() < 0.4, "{bound} against {best}");
    }

    #[test]
    fn a_uniform_distribution_is_not_cut() {
        let mut seen = Observed::default();
        let values: Vec<f32> = (0..40_960).map(|i| i as f32 / 40_960.0).collect();
        seen.observe(&values, 1).unwrap();
        for method in Method::ALL {
            assert!(largest(method, &seen) > 0.98, "{method}: {}", largest(method, &seen));
        }
    }

    #[test]
    fn one_sided_values_keep_their_side_and_nothing_has_no_range() {
        let mut seen = Observed::default();
        for method in Method::ALL {
            assert_eq!(method.range(&seen), None);
        }
        seen.observe(&[0.0, 1.0, 2.0, 3.0], 1).unwrap();
        for method in Method::ALL {
            assert_eq!(method.range(&seen).unwrap().min, 0.0, "{method}");
        }
    }

    #[test]
    fn names_are_read_back_and_others_refused() {
        for method in Method::ALL {
            assert_eq!(method.to_string().parse(), Ok(method));
            let json = serde_json::to_string(&method).unwrap();
            assert_eq!(serde_json::from_str::<Method>(&json).unwrap(), method);
        }
        for wrong in ["", "max", "percentile-", "percentile-0.9", "percentile-101", "percentile-NaN"] {
            assert!(wrong.parse::<Method>().unwrap_err().contains("expected min-max"), "{wrong}");
        }
    }
}
