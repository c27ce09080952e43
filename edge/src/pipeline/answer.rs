//! From a score to the words of an answer.

use std::time::{Duration, Instant};

use locus_engine::{Score, Scorer};
use locus_firmware_config::message::{Answer, Band, EngineInfo, INTENDED_USE, Timing};
use zeroize::Zeroizing;

use super::{ActiveModel, Job, prepare};

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The answer without its receipt.
pub(super) fn answer(
    box_name: &str,
    model: &ActiveModel,
    scorer: &Scorer,
    job: &Job,
    score: Score,
    started: Instant,
    infer: Duration,
) -> Answer {
    let (request, encoded) = (&job.request, &job.encoded);
    let mut warnings = prepare::warnings(scorer, request, encoded);
    if let Some(index) = job.repeat_of {
        warnings.push(format!(
            "this id was answered before, as record {index}; that answer is no longer in memory, so it was computed again"
        ));
    }
    let (predicted_label, predicted_description) = words(&score);
    Answer {
        id: request.id.clone(),
        r#box: box_name.to_owned(),
        mutation: request.mutation.clone().or_else(|| request.variant.clone()),
        predicted_label,
        predicted_description,
        pathogenic_probability: score.probability,
        benign_probability: score.probability.map(|p| 1.0 - p),
        prior: score.prior,
        band: score.band,
        abstained: score.abstained,
        input_mode: encoded.mode.as_str().to_owned(),
        consequence: encoded.consequence.map(|c| c.so_term().to_owned()),
        transcript_id: encoded.transcript_id.clone(),
        model: model.info.clone(),
        engine: EngineInfo { provider: model.provider.clone(), precision: model.precision.clone() },
        timing_us: Timing {
            queue: micros(started.duration_since(job.received).saturating_sub(job.tokenize)),
            tokenize: micros(job.tokenize),
            infer: micros(infer),
            journal: 0,
        },
        receipt: None,
        warnings,
        intended_use: INTENDED_USE.to_owned(),
    }
}

fn words(score: &Score) -> (Option<u8>, String) {
    match score.band {
        Band::Pathogenic => (Some(1), "computational prediction: towards pathogenic".into()),
        Band::Benign => (Some(0), "computational prediction: towards benign".into()),
        Band::Uncertain => (None, "computational prediction: uncertain, the model does not decide".into()),
        Band::None => {
            let reason = score.reason.as_deref().unwrap_or("no reason given");
            (None, format!("no prediction: {reason}"))
        }
    }
}

/// What the journal keeps of a request and its answer.
pub(super) fn record(job: &Job, answer: &Answer) -> Zeroizing<Vec<u8>> {
    #[derive(serde::Serialize)]
    struct Record<'a> {
        terminal: &'a str,
        transport: &'a str,
        request: &'a locus_firmware_config::message::Request,
        answer: &'a Answer,
    }
    let record = Record { terminal: &job.terminal, transport: job.transport, request: &job.request, answer };
    // Room for all of it: a reallocation would leave a copy behind.
    let room = 4_096 + job.request.sequence.as_ref().map_or(0, String::len) * 2;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *bytes, &record).expect("messages hold finite numbers and texts only");
    bytes
}
