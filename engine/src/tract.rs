//! tract: a pure Rust engine for machines without an ONNX Runtime library. FP32 only.
//!
//! tract 0.23 loads Q/DQ graphs, reads the first element of per-channel scales only, and answers wrongly
//! without a word; so a graph with quantisation operators is refused here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use locus_firmware_config::profile::DeviceProfile;
use tract_onnx::prelude::*;

use crate::Error;
use crate::batch::TokenBatch;
use crate::graphs::{FEATURES_INPUT, Graphs, LOGITS_OUTPUT};
use crate::precision;
use crate::session::{
    ActivePrecision, Engine, EngineKind, LoadOptions, Logits, Session, SessionError, SessionSpec,
    Unavailable, warm_up,
};

const KIND: EngineKind = EngineKind::Tract;
const RUNTIME: &str = "tract";

type Plan = Arc<TypedRunnableModel>;

/// Makes [`Session`]s that run in tract, one optimised plan per bucket, any number of rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct TractEngine;

impl Engine for TractEngine {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn check(&self, _profile: &DeviceProfile, _options: &LoadOptions) -> Result<(), Unavailable> {
        Ok(())
    }

    fn load_graphs(&self, graphs: &Graphs, options: &LoadOptions) -> Result<Box<dyn Session>, Error> {
        let chosen = precision::choose(graphs, KIND, options.precision, &precision::Cpu::here())
            .map_err(|source| SessionError::Unavailable { engine: KIND, source })?;
        let mut model = guarded(|| parse(&chosen.onnx)).map_err(load_error)?;
        let inputs = input_names(&model)?;
        graphs.check_inputs(KIND, inputs.iter().map(String::as_str))?;
        keep_logits(&mut model)?;
        let spec = graphs.spec(KIND, "tract (CPU)", RUNTIME, ActivePrecision::Fp32, chosen.note);
        let plans = guarded(|| {
            let buckets = spec.buckets.iter();
            buckets
                .map(|bucket| Ok((*bucket as usize, plan(&model, &inputs, *bucket, spec.n_features)?)))
                .collect()
        })
        .map_err(load_error)?;
        let mut session = TractSession { spec, inputs, plans };
        warm_up(&mut session, options)?;
        Ok(Box::new(session))
    }
}

struct TractSession {
    spec: SessionSpec,
    inputs: Vec<String>,
    plans: Vec<(usize, Plan)>,
}

impl Session for TractSession {
    fn spec(&self) -> &SessionSpec {
        &self.spec
    }

    fn run(&mut self, batch: &TokenBatch, logits: &mut Logits) -> Result<(), Error> {
        self.spec.check(batch)?;
        let run_error = |detail: String| SessionError::Run { engine: KIND, detail };
        let (_, plan) =
            self.plans.iter().find(|(bucket, _)| *bucket == batch.tokens).ok_or_else(|| {
                SessionError::Bucket { got: batch.tokens, buckets: self.spec.buckets.clone() }
            })?;
        let values: Vec<f32> = guarded(|| {
            let inputs =
                self.inputs.iter().map(|name| tensor(batch, name)).collect::<TractResult<TVec<TValue>>>()?;
            let outputs = plan.run(inputs)?;
            let logits = outputs[0].cast_to::<f32>()?;
            Ok(logits.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
        })
        .map_err(run_error)?;
        logits.fill(&self.spec, batch.rows, &values)?;
        Ok(())
    }
}

fn parse(onnx: &[u8]) -> TractResult<InferenceModel> {
    // Shapes noted by the exporter are symbolic; analysis has to start from the bucket instead.
    let reader = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    reader.model_for_read(&mut &*onnx)
}

fn input_names(model: &InferenceModel) -> Result<Vec<String>, SessionError> {
    let outlets = model.input_outlets().map_err(|error| load_error(format!("{error:#}")))?;
    Ok(outlets.iter().map(|outlet| model.node(outlet.node).name.clone()).collect())
}

fn keep_logits(model: &mut InferenceModel) -> Result<(), SessionError> {
    let outlets = model.output_outlets().map_err(|error| load_error(format!("{error:#}")))?;
    let named = |outlet: &OutletId| {
        model.outlet_label(*outlet).unwrap_or(&model.node(outlet.node).name) == LOGITS_OUTPUT
    };
    // A graph with one output needs no name match: tract renames some output nodes while parsing.
    let logits = outlets.iter().copied().find(named).or_else(|| (outlets.len() == 1).then(|| outlets[0]));
    let Some(logits) = logits else {
        let got = format!("{} outputs, none of them {LOGITS_OUTPUT}", outlets.len());
        return Err(SessionError::Contract { engine: KIND, got, expected: LOGITS_OUTPUT.into() });
    };
    model.select_output_outlets(&[logits]).map_err(|error| load_error(format!("{error:#}")))
}

fn plan(model: &InferenceModel, inputs: &[String], bucket: u32, n_features: u32) -> TractResult<Plan> {
    let mut model = model.clone();
    let batch: TDim = model.symbols.sym("batch").into();
    for (at, name) in inputs.iter().enumerate() {
        let fact = if name == FEATURES_INPUT {
            InferenceFact::dt_shape(f32::datum_type(), [batch.clone(), (n_features as usize).to_dim()])
        } else {
            InferenceFact::dt_shape(i64::datum_type(), [batch.clone(), (bucket as usize).to_dim()])
        };
        model.set_input_fact(at, fact)?;
    }
    model.into_optimized()?.into_runnable()
}

fn tensor(batch: &TokenBatch, name: &str) -> TractResult<TValue> {
    let tensor = match batch.token_field(name) {
        Some(values) => Tensor::from_shape(&[batch.rows, batch.tokens], values)?,
        None => Tensor::from_shape(&[batch.rows, batch.n_features], &batch.features)?,
    };
    Ok(tensor.into_tvalue())
}

/// tract panics on some graphs that it does not understand; a bundle is input from outside.
fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err("it panicked".into()),
    }
}

fn load_error(detail: String) -> SessionError {
    SessionError::Load { engine: KIND, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Precision;
    use crate::testing::{self, BUCKETS, Numbers, OwnedRow};

    fn open(graphs: &Graphs, precision: Precision) -> Result<Box<dyn Session>, Error> {
        TractEngine.load_graphs(graphs, &LoadOptions { precision, ..LoadOptions::default() })
    }

    #[test]
    fn batched_rows_and_padding_give_each_row_its_own_logit() {
        let mut session = open(&testing::graphs(3), Precision::Auto).unwrap();
        assert_eq!(session.spec().precision, ActivePrecision::Fp32);
        let mut numbers = Numbers::new(5);
        let rows: Vec<OwnedRow> = [7, 20, 32].map(|n| OwnedRow::new(&mut numbers, n, 1.0)).into();
        let views: Vec<_> = rows.iter().map(OwnedRow::row).collect();
        let mut together = Logits::default();
        session.run(&TokenBatch::pack_rows(&views, 32).unwrap(), &mut together).unwrap();
        for (at, view) in views.iter().enumerate() {
            for bucket in BUCKETS {
                let mut alone = Logits::default();
                let batch = TokenBatch::pack_rows(std::slice::from_ref(view), bucket as usize).unwrap();
                session.run(&batch, &mut alone).unwrap();
                let difference = (alone.row(0)[0] - together.row(at)[0]).abs();
                assert!(difference < 1e-5, "row {at} in bucket {bucket}: {difference}");
            }
        }
        assert!((together.row(0)[0] - together.row(1)[0]).abs() > 1e-3, "the model is constant");
    }

    #[test]
    fn int8_is_refused_whether_asked_for_or_hidden_in_the_fp32_part() {
        let error = open(&testing::graphs(3), Precision::Int8).err().unwrap();
        assert!(error.to_string().contains("FP32 only"), "{error}");
        let hidden = Graphs::from_onnx(Some(testing::pair_model(3, true)), None, &BUCKETS, 2, 1, 0);
        let error = open(&hidden, Precision::Fp32).err().unwrap();
        assert!(error.to_string().contains("DequantizeLinear"), "{error}");
    }

    #[test]
    fn bytes_that_are_no_graph_are_an_error_not_a_panic() {
        for bytes in [vec![], vec![0xff; 64], b"not onnx at all".to_vec()] {
            let graphs = Graphs::from_onnx(Some(bytes), None, &BUCKETS, 2, 1, 0);
            assert!(open(&graphs, Precision::Fp32).is_err());
        }
    }

    #[test]
    fn a_model_that_gives_nan_does_not_open() {
        let poisoned = testing::pair_model_with_output(3, false, Some(f32::NAN));
        let n = locus_genome::feature_names().len() as u32;
        let graphs = Graphs::from_onnx(Some(poisoned), None, &BUCKETS, 2, 1, n);
        let error = open(&graphs, Precision::Fp32).err().unwrap();
        assert!(matches!(error, Error::Session(SessionError::NotFinite { .. })), "{error}");
    }
}
