//! Times of many requests as an HDR histogram.

use std::{fmt::Write as _, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeStruct as _};

/// Longest time, in nanoseconds; a longer one is kept as this one.
const LONGEST_NS: u64 = 60_000_000_000;
/// Significant digits: no time is off by more than one part in a thousand.
const DIGITS: u8 = 3;

/// The percentiles that are told, as shares with their names.
pub const SHARES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// A percentile with fewer values beyond it rests on chance.
pub const FEW: u64 = 10;

/// Times from 1 ns to 60 s to three significant digits, in 200 KiB however many they are (HdrHistogram, G. Tene).
///
/// In a file it is its percentiles in milliseconds and all its buckets, as `NANOSECONDS:COUNT` where a count is not 1:
/// whoever reads it again has the same distribution, and reads nothing but the buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

/// Text that is no list of buckets.
#[derive(Debug, thiserror::Error)]
#[error("got the bucket {0:?}, expected NANOSECONDS or NANOSECONDS:COUNT")]
struct NotALatency(String);

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS);
        Self {
            histogram: histogram.unwrap_or_else(|error| unreachable!("the bounds are constants: {error}")),
        }
    }
}

impl Latencies {
    /// One more.
    pub fn record(&mut self, time: Duration) {
        self.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), 1);
    }

    fn add(&mut self, ns: u64, times: u64) {
        self.histogram.saturating_record_n(ns.clamp(1, LONGEST_NS), times);
    }

    /// All of another one.
    pub fn merge(&mut self, other: &Self) {
        for bucket in other.histogram.iter_recorded() {
            self.add(bucket.value_iterated_to(), bucket.count_at_value());
        }
    }

    /// The time that a share of all does not exceed (nearest rank), to three digits; zero of none.
    pub fn percentile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.histogram.value_at_quantile(share))
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.histogram.max())
    }

    /// Arithmetic mean; zero of none.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.histogram.mean() as u64)
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// How many lie beyond a percentile: what it rests on. Of fewer than ten, another run gives another value.
    pub fn beyond(&self, share: f64) -> u64 {
        (self.count() as f64 * (1.0 - share)).round() as u64
    }

    /// Every bucket that holds something: its highest time, and the share of all that does not exceed it.
    pub fn cumulative(&self) -> Vec<(Duration, f64)> {
        let (mut seen, all) = (0, self.count() as f64);
        let buckets = self.histogram.iter_recorded().map(|bucket| {
            seen += bucket.count_at_value();
            (Duration::from_nanos(bucket.value_iterated_to()), seen as f64 / all)
        });
        buckets.collect()
    }

    fn buckets(&self) -> String {
        let mut text = String::new();
        for bucket in self.histogram.iter_recorded() {
            let gap = if text.is_empty() { "" } else { " " };
            let _ = match bucket.count_at_value() {
                1 => write!(text, "{gap}{}", bucket.value_iterated_to()),
                count => write!(text, "{gap}{}:{count}", bucket.value_iterated_to()),
            };
        }
        text
    }

    fn from_buckets(text: &str) -> Result<Self, NotALatency> {
        let mut latencies = Self::default();
        for bucket in text.split_whitespace() {
            let (ns, count) = bucket.split_once(':').unwrap_or((bucket, "1"));
            let (Ok(ns), Ok(count)) = (ns.parse(), count.parse()) else {
                return Err(NotALatency(bucket.into()));
            };
            latencies.add(ns, count);
        }
        Ok(latencies)
    }
}

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let mut fields = serializer.serialize_struct("Latencies", 8)?;
        fields.serialize_field("count", &self.count())?;
        fields.serialize_field("mean_ms", &ms(self.mean()))?;
        let names = ["p50_ms", "p90_ms", "p99_ms", "p99_9_ms"];
        for (name, (_, share)) in names.into_iter().zip(SHARES) {
            fields.serialize_field(name, &ms(self.percentile(share)))?;
        }
        fields.serialize_field("max_ms", &ms(self.max()))?;
        fields.serialize_field("buckets_ns", &self.buckets())?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Written {
            buckets_ns: String,
        }
        let written = Written::deserialize(deserializer)?;
        Self::from_buckets(&written.buckets_ns).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(times_ns: &[u64]) -> Latencies {
        let mut latencies = Latencies::default();
        times_ns.iter().for_each(|ns| latencies.record(Duration::from_nanos(*ns)));
        latencies
    }

    proptest! {
        #[test]
        fn a_percentile_is_the_sorted_value_of_its_rank_to_three_digits(
            mut times in prop::collection::vec(1..=LONGEST_NS, 1..400), share in 0.0..=1.0_f64,
        ) {
            let latencies = of(&times);
            times.sort_unstable();
            let rank = ((share * times.len() as f64).ceil() as usize).clamp(1, times.len());
            let (got, expected) = (latencies.percentile(share).as_nanos() as f64, times[rank - 1] as f64);
            prop_assert!((got - expected).abs() <= expected / 1e3, "{got} is not {expected}");
            prop_assert_eq!(latencies.count(), times.len() as u64);
        }

        #[test]
        fn what_is_written_is_read_as_the_same_distribution(times in prop::collection::vec(1..=LONGEST_NS, 0..200)) {
            let latencies = of(&times);
            let text = serde_json::to_string(&latencies).unwrap();
            let again: Latencies = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&serde_json::to_string(&again).unwrap(), &text);
            prop_assert_eq!(again.cumulative(), latencies.cumulative());
        }
    }

    #[test]
    fn a_microsecond_keeps_its_nanoseconds_and_what_is_too_long_is_the_longest() {
        let latencies = of(&[1_001, 1_002, 1_003]);
        assert_eq!(latencies.percentile(0.5), Duration::from_nanos(1_002));
        assert_eq!(latencies.mean(), Duration::from_nanos(1_002));
        let mut long = Latencies::default();
        long.record(Duration::from_secs(3_600));
        let off = long.max().as_secs_f64() / 60.0;
        assert!((1.0..1.001).contains(&off), "{off}");
    }

    #[test]
    fn merged_parts_are_the_whole() {
        let (mut left, right) = (of(&[5, 70_000, 9_000_000]), of(&[5, 6, 1_000_000_000]));
        left.merge(&right);
        let whole = of(&[5, 70_000, 9_000_000, 5, 6, 1_000_000_000]);
        assert_eq!(left.cumulative(), whole.cumulative());
        assert_eq!((whole.count(), whole.beyond(0.5)), (6, 3));
    }

    #[test]
    fn of_none_everything_is_zero_and_other_text_is_refused() {
        let none = Latencies::default();
        assert_eq!((none.count(), none.percentile(0.99), none.max()), (0, Duration::ZERO, Duration::ZERO));
        let refused = serde_json::from_str::<Latencies>("{\"buckets_ns\": \"12:x\"}").unwrap_err();
        assert!(refused.to_string().contains("12:x"), "{refused}");
    }
}
