//! More than a box can do: what is too much is refused with a hint, the rest is answered, and nobody is left out.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use locus_tests::{
    Rig,
    load::{askers, drive, percentile},
    vitals,
};

/// Time of one answer of the fake engine, one row at a time: 100 answers a second.
const ANSWER_MS: u32 = 10;

/// What waits and runs at most: who is let in waits for seven others.
const QUEUE_UNITS: u32 = 8;

/// What the whole of a flood showed beside a load of four fifths.
struct Shown {
    /// p99 of answers under the flood by that under four fifths.
    slower: f64,
    refused_p99: Duration,
    /// Answers by what the box can do.
    goodput: f64,
    grown_kib: i64,
}

async fn overload(lasting: Duration) -> Shown {
    let rig = Rig::new(&format!("[limits]\nqueue_units = {QUEUE_UNITS}\n")).unwrap();
    rig.fake(ANSWER_MS, 1).unwrap();
    // What is remembered across restarts fills up within minutes, so that what grows beyond it shows.
    rig.configure(|text| text.replace("[journal]\n", "[journal]\nremember = 5_000\n")).unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let askers = askers(&rig, &daemon, 10, 10, true).await.unwrap();
    let all = askers.len() as f64;
    let capacity = 1e3 / f64::from(ANSWER_MS);
    let pace = |times: f64| Duration::from_secs_f64(all / (times * capacity));
    let (askers, calm) = drive(askers, pace(0.8), lasting / 5, "calm").await.unwrap();
    let calm: Vec<Duration> = calm.into_values().flat_map(|tally| tally.answered).collect();
    // Ten times as much as there is. Outcomes are repeated from memory for five minutes: after that, it is to stay as it is.
    let (askers, first) = drive(askers, pace(10.0), lasting.mul_f64(0.6), "flood").await.unwrap();
    let before = vitals(daemon.pid()).unwrap();
    let (askers, second) = drive(askers, pace(10.0), lasting.mul_f64(0.4), "flood-on").await.unwrap();
    let after = vitals(daemon.pid()).unwrap();
    let (mut answered, mut refused) = (Vec::new(), Vec::new());
    for (transport, tally) in first.into_iter().chain(second) {
        assert!(!tally.answered.is_empty(), "{transport} is left out");
        assert!(
            tally.without_hint == 0 && tally.faults.is_empty() && tally.lost == 0,
            "{transport}: {tally:?}"
        );
        println!(
            "overload: {transport}: {} answered (p99 {:?}), {} refused (p99 {:?})",
            tally.answered.len(),
            percentile(&tally.answered, 0.99),
            tally.refused.len(),
            percentile(&tally.refused, 0.99)
        );
        answered.extend(tally.answered);
        refused.extend(tally.refused);
    }
    assert!(!refused.is_empty(), "nothing was refused");
    let seconds = lasting.as_secs_f64();
    let [calm_p99, flood_p99] = [&calm, &answered].map(|times| percentile(times, 0.99).as_secs_f64());
    let shown = Shown {
        slower: flood_p99 / calm_p99,
        refused_p99: percentile(&refused, 0.99),
        goodput: answered.len() as f64 / seconds / capacity,
        grown_kib: after.rss_kib as i64 - before.rss_kib as i64,
    };
    println!(
        "overload: {:.1} times the capacity asked for, {:.0} % of it answered; p99 {:.1} ms, {:.2} times that at four \
         fifths; memory {} to {} KiB, files {} to {}",
        (answered.len() + refused.len()) as f64 / seconds / capacity,
        100.0 * shown.goodput,
        flood_p99 * 1e3,
        shown.slower,
        before.rss_kib,
        after.rss_kib,
        before.files,
        after.files
    );
    // Once it is over, everything is answered at once.
    let (_, tallies) = drive(askers, Duration::from_secs(1), Duration::from_secs(1), "calm").await.unwrap();
    assert!(tallies.values().all(|tally| tally.asked() == tally.answered.len()), "{tallies:?}");
    daemon.terminate().unwrap();
    assert!(rig.ctl(&["journal", "verify"]).unwrap().contains("intact"));
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_refused_with_a_hint_and_nobody_is_left_out() {
    overload(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes of overload, figures that need a quiet machine"]
async fn ten_minutes_of_too_much_are_survived() {
    let shown = overload(Duration::from_secs(600)).await;
    assert!(shown.slower <= 2.0, "{:.2} times as slow", shown.slower);
    assert!(shown.refused_p99 <= Duration::from_millis(50), "{:?}", shown.refused_p99);
    assert!(shown.goodput >= 0.9, "{:.2}", shown.goodput);
    assert!(shown.grown_kib < 4 << 10, "{} KiB more", shown.grown_kib);
}
