//! From what was noted of a request to its spans.

use std::time::Duration;

use locus_firmware_config::message::Lane;
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState},
};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};

use super::{REQUEST, Record};

/// The stages of a request in their order, each with how long it took. Together they are as long as the request.
fn stages(record: &Record) -> Vec<(&'static str, Duration)> {
    let Some((timing, ..)) = &record.answered else { return Vec::new() };
    let micros = Duration::from_micros;
    let encode = micros(timing.tokenize);
    let admit = record.entered.saturating_sub(encode).min(micros(timing.queue));
    let mut stages = vec![
        ("admit", admit),
        ("encode", encode),
        ("queue", micros(timing.queue).saturating_sub(admit)),
        ("infer", micros(timing.infer)),
    ];
    let rest = record.took.saturating_sub(stages.iter().map(|(_, took)| *took).sum());
    let (journal, rest) = (micros(timing.journal).min(rest), rest.saturating_sub(micros(timing.journal)));
    // What the answer does not time: an explanation, which lies before the journal, or else the way back to who asked.
    if record.explains {
        stages.extend([("explain", rest), ("journal", journal)]);
    } else {
        stages.extend([("journal", journal), ("reply", rest)]);
    }
    stages
}

/// The span of a request, and one of each stage within it.
pub(super) fn of(record: Record) -> Vec<SpanData> {
    let mut attributes = vec![
        KeyValue::new("locus.transport", record.transport),
        KeyValue::new("locus.result", record.result),
        KeyValue::new(
            "locus.lane",
            match record.lane {
                Lane::Bedside => "bedside",
                Lane::Batch => "batch",
            },
        ),
        KeyValue::new("locus.repeated", record.repeated),
    ];
    let stages = stages(&record);
    if let Some((_, model, engine)) = record.answered {
        attributes.extend([
            KeyValue::new("locus.model", model.name),
            KeyValue::new("locus.model.version", model.version),
            KeyValue::new("locus.engine", engine.provider),
            KeyValue::new("locus.precision", engine.precision),
        ]);
    }
    let scope = InstrumentationScope::builder("locus").with_version(env!("CARGO_PKG_VERSION")).build();
    let own = record.context;
    let span = |context: SpanContext, name: &'static str, begins: Duration, took: Duration| SpanData {
        span_context: context,
        parent_span_id: own.span_id(),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: record.began + begins,
        end_time: record.began + begins + took,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: scope.clone(),
    };
    let request = SpanData {
        parent_span_id: record.parent.as_ref().map_or(SpanId::INVALID, SpanContext::span_id),
        parent_span_is_remote: record.parent.is_some(),
        span_kind: SpanKind::Server,
        attributes,
        status: if record.failed { Status::error(record.result) } else { Status::Unset },
        ..span(own.clone(), REQUEST, Duration::ZERO, record.took)
    };
    let (ids, mut begins, mut spans) = (RandomIdGenerator::default(), Duration::ZERO, vec![request]);
    for (name, took) in stages {
        let context =
            SpanContext::new(own.trace_id(), ids.new_span_id(), TraceFlags::SAMPLED, false, TraceState::NONE);
        spans.push(span(context, name, begins, took));
        begins += took;
    }
    spans
}
