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

async fn overload(lasting: Duration) {
    let rig = Rig::new("[limits]\nqueue_units = 16\n").unwrap();
    rig.fake(ANSWER_MS, 1).unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let askers = askers(&rig, &daemon, 10, 10, true).await.unwrap();
    let all = askers.len() as f64;
    let capacity = 1e3 / f64::from(ANSWER_MS);
    // Ten times as much as there is.
    let pace = Duration::from_secs_f64(all / (10.0 * capacity));
    let before = vitals(daemon.pid()).unwrap();
    let (askers, tallies) = drive(askers, pace, lasting, "flood").await.unwrap();
    let after = vitals(daemon.pid()).unwrap();
    let (mut answered, mut asked) = (0, 0);
    for (transport, tally) in &tallies {
        assert!(!tally.answered.is_empty(), "{transport} is left out");
        assert!(
            tally.without_hint == 0 && tally.faults.is_empty() && tally.lost == 0,
            "{transport}: {tally:?}"
        );
        answered += tally.answered.len();
        asked += tally.asked();
        println!(
            "{transport}: {} answered (p99 {:?}), {} refused (p99 {:?})",
            tally.answered.len(),
            percentile(&tally.answered, 0.99),
            tally.refused.len(),
            percentile(&tally.refused, 0.99)
        );
    }
    assert!(asked > answered, "nothing was refused");
    let seconds = lasting.as_secs_f64();
    println!(
        "{:.1} times the capacity asked for, {:.0} % of it answered; memory {} to {} KiB, files {} to {}",
        asked as f64 / seconds / capacity,
        100.0 * answered as f64 / seconds / capacity,
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
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_refused_with_a_hint_and_nobody_is_left_out() {
    overload(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes of overload"]
async fn ten_minutes_of_too_much_are_survived() {
    overload(Duration::from_secs(600)).await;
}
