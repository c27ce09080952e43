use locus_firmware_config::message::{Fault, FaultCode};

use super::*;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn inner(ratio: f64) -> (Inner, Receiver<Record>) {
    let (queue, records) = bounded(1);
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
    (Inner { sampler, ids: RandomIdGenerator::default(), queue }, records)
}

fn record(timing: Option<Timing>, explains: bool) -> Record {
    let model = ModelInfo { name: "m".into(), version: "1".into(), digest: String::new() };
    let engine = EngineInfo { provider: "e".into(), precision: "p".into() };
    let (inner, parent) = (inner(1.0).0, Parent::of(TRACEPARENT));
    Record {
        context: inner.sampled(&parent).unwrap(),
        parent: parent.0,
        transport: "http",
        result: "answered",
        lane: Lane::Bedside,
        explains,
        began: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
        took: Duration::from_micros(1_000),
        entered: Duration::from_micros(150),
        answered: timing.map(|timing| (timing, model, engine)),
        repeated: false,
        failed: timing.is_none(),
    }
}

#[test]
fn a_traceparent_is_taken_as_it_is_written_and_anything_else_is_none() {
    let parent = Parent::of(TRACEPARENT).0.unwrap();
    assert_eq!(parent.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert!(parent.is_sampled() && parent.is_remote());
    for wrong in [
        "",
        "00",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "zz-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        &format!("{TRACEPARENT}-x"),
        &"0".repeat(10_000),
        "Ä0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        assert!(Parent::of(wrong).0.is_none(), "{wrong:.80}");
    }
}

#[test]
fn the_share_is_of_ones_own_traces_and_an_asker_decides_for_its_own() {
    let (never, always) = (inner(0.0).0, inner(1.0).0);
    assert!(never.sampled(&Parent::default()).is_none() && always.sampled(&Parent::default()).is_some());
    let sampled = never.sampled(&Parent::of(TRACEPARENT)).unwrap();
    assert_eq!(sampled.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert!(always.sampled(&Parent::of(&TRACEPARENT.replace("-01", "-00"))).is_none());
    let half = inner(0.5).0;
    let sampled = (0..2_000).filter(|_| half.sampled(&Parent::default()).is_some()).count();
    assert!((850..1_150).contains(&sampled), "{sampled}");
}

#[test]
fn stages_follow_each_other_and_fill_the_request() {
    let timing = Timing { queue: 300, tokenize: 50, infer: 400, journal: 200 };
    for (explains, last) in [(false, "reply"), (true, "journal")] {
        let spans = spans::of(record(Some(timing), explains));
        let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
        assert_eq!(names[..5], ["locus.request", "admit", "encode", "queue", "infer"]);
        assert_eq!(names.last(), Some(&last));
        let mut at = spans[0].start_time;
        for span in &spans[1..] {
            assert_eq!((span.start_time, span.parent_span_id), (at, spans[0].span_context.span_id()));
            at = span.end_time;
        }
        assert_eq!(at, spans[0].end_time);
        assert_eq!(spans[0].parent_span_id.to_string(), "b7ad6b7169203331");
    }
    let admit = &spans::of(record(Some(timing), false))[1];
    assert_eq!(admit.end_time.duration_since(admit.start_time).unwrap(), Duration::from_micros(100));
    let failed = spans::of(record(None, false));
    assert_eq!(failed.len(), 1, "what was not answered has no stages");
}

#[test]
fn a_queue_that_is_full_drops_and_does_not_wait() {
    let (inner, records) = inner(1.0);
    let traces = Traces(Some(Arc::new(inner)));
    let outcome = Outcome::Fault(Fault::new(FaultCode::Busy, "x"));
    let seen = Seen {
        transport: "http",
        result: "busy",
        lane: Lane::Bedside,
        explains: false,
        started: Instant::now(),
        entered: Duration::ZERO,
        repeated: false,
        outcome: &outcome,
    };
    let started = Instant::now();
    (0..1_000).for_each(|_| traces.note(seen, &Parent::default()));
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(records.try_iter().count(), 1);
    Traces::default().note(seen, &Parent::default());
}
