//! From a score to the words of an answer.

use std::time::{Duration, Instant};

use locus_engine::{Score, SequenceScore};
use locus_firmware_config::manifest::EvidenceStep;
use locus_firmware_config::message::{
    Answer, Band, EngineInfo, Evidence, INTENDED_USE, LabelProbability, Prediction, Timing,
};
use locus_genome::{EncodedVariant, Kind};
use zeroize::Zeroizing;

use super::{
    ActiveModel, Job,
    loaded::{Encoded, Scored},
    prepare,
};

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The answer without its receipt.
pub(super) fn answer(
    box_name: &str,
    model: &ActiveModel,
    job: &Job,
    scored: Scored,
    started: Instant,
    infer: Duration,
) -> Answer {
    let (request, encoded) = (&job.request, &job.encoded);
    let mut warnings = prepare::warnings(model, request, encoded);
    if let Some(index) = job.repeat_of {
        warnings.push(format!(
            "this id was answered before, as record {index}; that answer is no longer in memory, so it was computed again"
        ));
    }
    let variant = if let Encoded::Variant(variant) = encoded { Some(variant) } else { None };
    let (score, prediction) = match scored {
        Scored::Variant(score) => (Some(score), None),
        Scored::Sequence(score) => (None, Some(predicted(model, &score))),
    };
    let (predicted_label, predicted_description) = match (&score, &prediction) {
        (Some(score), _) => words(score),
        (None, Some(Ok((_, words)))) => (None, words.clone()),
        (None, Some(Err(reason))) => (None, format!("no prediction: {reason}")),
        (None, None) => (None, String::new()),
    };
    let about = &job.about;
    warnings.extend(about.notes.iter().cloned());
    let unlike = unlike(score.as_ref(), variant.map(|variant| &**variant));
    let evidence = score.as_ref().zip(variant).and_then(|(score, variant)| evidence(model, score, variant));
    let probability = score.as_ref().and_then(|score| score.probability);
    Answer {
        id: request.id.clone(),
        r#box: box_name.to_owned(),
        mutation: request.mutation.clone().or_else(|| request.variant.clone()),
        predicted_label,
        predicted_description,
        pathogenic_probability: probability,
        benign_probability: probability.map(|p| 1.0 - p),
        prior: score.as_ref().and_then(|score| score.prior),
        band: score.as_ref().map_or(Band::None, |score| score.band),
        abstained: score.as_ref().map_or(matches!(prediction, Some(Err(_))), |score| score.abstained),
        input_mode: variant.map_or("sequence", |variant| variant.mode.as_str()).to_owned(),
        consequence: variant.and_then(|v| v.consequence).map(|c| c.so_term().to_owned()),
        transcript_id: variant.and_then(|variant| variant.transcript_id.clone()),
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
        prediction: prediction.and_then(Result::ok).map(|(prediction, _)| prediction),
        hgvs_c: about.names.c.clone(),
        hgvs_p: about.names.p.clone(),
        assembly: about.assembly.clone(),
        reference: about.reference.clone(),
        evidence,
        out_of_distribution: unlike.is_some(),
        out_of_distribution_reason: unlike,
        attribution: about.attribution.clone(),
        around: about.around.clone(),
    }
}

/// Why the input is unlike what the model was trained on, as far as the input and the manifest show it.
fn unlike(score: Option<&Score>, variant: Option<&EncodedVariant>) -> Option<String> {
    let scope = score?.reason.as_ref().and_then(|reason| reason.strip_prefix("out of scope: "));
    if let Some(reason) = scope {
        return Some(reason.to_owned());
    }
    let contradicts = variant.is_some_and(|variant| !variant.phases_agree);
    contradicts.then(|| {
        "the transcript's phases contradict its lengths, those of the training data do not".to_owned()
    })
}

/// The step of evidence that a probability reaches. Only where one base exchanges residues: of other consequences the term
/// says much, and to count it again as a prediction would count it twice; and the steps were measured on changes of one base.
fn evidence(model: &ActiveModel, score: &Score, variant: &EncodedVariant) -> Option<Evidence> {
    let probability = score.probability?;
    variant.consequence.filter(|consequence| consequence.is_missense() && variant.kind == Kind::Snv)?;
    let steps = model.evidence.get(variant.mode.as_str())?;
    let reached = |step: &&EvidenceStep| match step.criterion.as_str() {
        "PP3" => probability >= step.from,
        _ => probability <= step.from,
    };
    let distance = |step: &&EvidenceStep| step.likelihood_ratio.ln().abs();
    let strongest = steps.iter().filter(reached).max_by(|a, b| distance(a).total_cmp(&distance(b)))?;
    Some(Evidence {
        criterion: strongest.criterion.clone(),
        strength: strongest.strength.clone(),
        likelihood_ratio: strongest.likelihood_ratio,
    })
}

/// What a sequence model says, also in words; or why it abstains.
fn predicted(model: &ActiveModel, score: &SequenceScore) -> Result<(Prediction, String), String> {
    if let Some(reason) = &score.abstained {
        return Err(reason.clone());
    }
    let labels = &model.labels;
    if let Some(value) = score.value {
        let label = labels.first().cloned().unwrap_or_default();
        let words = format!("computational prediction: {label} {value:.4}");
        return Ok((Prediction { label, probabilities: Vec::new(), value: Some(value) }, words));
    }
    let (best, probability) = score.best().ok_or("the model has no labels")?;
    let label = labels.get(best).cloned().unwrap_or_default();
    let words = format!("computational prediction: {label}, probability {probability:.3}");
    let each = labels.iter().cloned().zip(score.probabilities.iter().copied());
    let probabilities = each.map(|(label, probability)| LabelProbability { label, probability }).collect();
    Ok((Prediction { label, probabilities, value: None }, words))
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
