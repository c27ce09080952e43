//! A box that runs on: memory and files stay as they are, the journal turns its pages without a gap.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::{Duration, Instant};

use locus_tests::{
    Rig,
    load::{askers, drive},
    vitals,
};

async fn soak(rounds: usize, lasting: Duration) {
    // A segment of a year's box lasts a quarter of an hour; here it lasts a moment.
    let rig = Rig::new("[limits]\nreplay_answers = 256\n").unwrap();
    rig.configure(|text| {
        text.replace(
            "recipients = [\"hospital.pub\"]",
            "recipients = [\"hospital.pub\"]\nrotate_records = 200\nremember = 5_000",
        )
    })
    .unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let mut terminals = askers(&rig, &daemon, 3, 3, true).await.unwrap();
    let (mut seen, mut answered, started) = (Vec::new(), 0, Instant::now());
    for round in 0..rounds {
        let (back, tallies) =
            drive(terminals, Duration::from_millis(4), lasting, &round.to_string()).await.unwrap();
        terminals = back;
        for (transport, tally) in &tallies {
            assert!(tally.faults.is_empty() && tally.lost == 0, "{transport}: {tally:?}");
            answered += tally.answered.len();
        }
        seen.push((started.elapsed(), vitals(daemon.pid()).unwrap()));
    }
    // The first part fills what is kept for a while: answers for repeats, measurements, buffers of the engine.
    let settled = &seen[seen.len() / 3..];
    let (first, last) = (settled[0], settled[settled.len() - 1]);
    assert!(last.1.files <= first.1.files, "files: {} to {}", first.1.files, last.1.files);
    let hours = (last.0 - first.0).as_secs_f64() / 3600.0;
    let slope = (last.1.rss_kib as f64 - first.1.rss_kib as f64) / 1024.0 / hours;
    println!(
        "{answered} answers in {:.0} s; memory {} to {} KiB ({slope:.2} MiB/h at this rate, {:.3} KiB for 1,000 answers), files {} to {}",
        started.elapsed().as_secs_f64(),
        first.1.rss_kib,
        last.1.rss_kib,
        (last.1.rss_kib as f64 - first.1.rss_kib as f64) / (answered as f64 * 2.0 / 3.0) * 1e3,
        first.1.files,
        last.1.files
    );
    daemon.terminate().unwrap();
    let report: serde_json::Value =
        serde_json::from_str(&rig.ctl(&["journal", "verify", "--json"]).unwrap()).unwrap();
    assert_eq!(report["findings"], serde_json::json!([]));
    assert_eq!(report["records"], answered, "no gap and nothing twice");
    assert!(report["segments"].as_u64().unwrap() > 1, "the journal did not turn a page: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_runs_on_takes_no_more_files_and_loses_no_record() {
    soak(6, Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "an hour at full load, as many answers as a ward asks for in a year"]
async fn an_hour_at_full_load_takes_no_more_memory() {
    soak(60, Duration::from_secs(60)).await;
}
