//! Which graph runs on which engine, and what that is called.
//!
//! On x86-64 the signed INT8 graph is slower than FP32 and its unsigned form two to three times faster, but
//! only processors with VNNI compute the unsigned form exactly: older kernels add pairs of products in 16 bits
//! and saturate without a word. So the choice is made from CPUID, and the session says what it chose.

use std::sync::Arc;

use crate::graphs::Graphs;
use crate::inspect;
use crate::rewrite;
use crate::session::{ActivePrecision, EngineKind, Precision, Unavailable};

/// What INT8 kernels this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// x86-64 with AVX-VNNI or AVX512-VNNI: unsigned by signed products are exact.
    X86Vnni,
    /// x86-64 without: unsigned by signed products may saturate.
    X86,
    /// Arm and others: the signed graph is right as it is.
    Other,
}

impl Cpu {
    /// The processor that this runs on.
    pub fn here() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let vnni =
                std::is_x86_feature_detected!("avxvnni") || std::is_x86_feature_detected!("avx512vnni");
            if vnni { Self::X86Vnni } else { Self::X86 }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self::Other
    }
}

/// A graph to load, and what it will be called.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) onnx: Arc<[u8]>,
    pub(crate) precision: ActivePrecision,
    pub(crate) note: Option<String>,
}

/// Picks the graph for an engine.
///
/// # Errors
/// [`Unavailable`] when what was asked for explicitly cannot be had; `Auto` only fails without any graph.
pub(crate) fn choose(
    graphs: &Graphs,
    kind: EngineKind,
    asked: Precision,
    cpu: &Cpu,
) -> Result<Chosen, Unavailable> {
    let chosen = pick(graphs, kind, asked, cpu)?;
    inspect::self_contained(&chosen.onnx).map_err(|error| Unavailable::new(error.to_string()))?;
    Ok(chosen)
}

fn pick(graphs: &Graphs, kind: EngineKind, asked: Precision, cpu: &Cpu) -> Result<Chosen, Unavailable> {
    let fp32 = |note: Option<&str>| {
        let onnx = graphs.fp32.clone();
        let onnx = onnx.ok_or_else(|| Unavailable::new("the bundle has no fp32.onnx; ask for int8"))?;
        Ok(Chosen { onnx, precision: ActivePrecision::Fp32, note: note.map(str::to_owned) })
    };
    let int8 = || {
        graphs
            .int8
            .clone()
            .ok_or_else(|| Unavailable::new("the bundle has no int8.onnx; ask for fp32 or auto"))
    };
    match (kind, asked) {
        (EngineKind::Tract, Precision::Int8) => Err(Unavailable::new(
            "tract computes INT8 graphs wrongly, so it runs FP32 only; ask for fp32 or auto, or use ONNX Runtime",
        )),
        (EngineKind::Tract, _) => {
            let chosen =
                fp32((asked == Precision::Auto && graphs.int8.is_some()).then_some("tract runs FP32 only"))?;
            let operators = inspect::quantised_operators(&chosen.onnx)
                .map_err(|error| Unavailable::new(format!("fp32.onnx: {error}")))?;
            match operators.first() {
                None => Ok(chosen),
                Some(operator) => Err(Unavailable::new(format!(
                    "the graph has {operator} operators, which tract computes wrongly; give it a plain FP32 graph"
                ))),
            }
        }
        (_, Precision::Fp32) => fp32(None),
        (EngineKind::OrtCpu, Precision::Int8) => int8_on_cpu(int8()?, cpu),
        (EngineKind::OrtTensorrt, Precision::Int8) => int8_on_tensorrt(graphs, int8),
        (_, Precision::Int8) => signed(int8()?, None),
        (_, Precision::Auto) if graphs.int8.is_none() => fp32(Some("the bundle has no int8.onnx")),
        (_, Precision::Auto) if graphs.int8_refused.is_some() => fp32(graphs.int8_refused.as_deref()),
        (EngineKind::OrtTensorrt, Precision::Auto) => int8_on_tensorrt(graphs, int8),
        (EngineKind::OrtCuda, Precision::Auto) => {
            fp32(Some("the CUDA provider has no INT8 kernels for this graph"))
        }
        (_, Precision::Auto) => match cpu {
            Cpu::X86 => {
                fp32(Some("this processor has neither AVX-VNNI nor AVX512-VNNI, so INT8 is not used"))
            }
            // OpenVINO chooses kernels for signed codes itself.
            Cpu::X86Vnni if kind == EngineKind::OrtOpenvino => signed(int8()?, None),
            Cpu::X86Vnni => match rewrite::unsigned_activations(&int8()?) {
                Ok(rewritten) => unsigned(rewritten),
                Err(error) => {
                    fp32(Some(&format!("int8.onnx cannot be rewritten for this processor: {error}")))
                }
            },
            Cpu::Other => signed(int8()?, None),
        },
    }
}

/// TensorRT 11 types a network as its file does: what is not quantised is fast only where it is in half precision there.
fn int8_on_tensorrt(
    graphs: &Graphs,
    int8: impl FnOnce() -> Result<Arc<[u8]>, Unavailable>,
) -> Result<Chosen, Unavailable> {
    match &graphs.int8_fp16 {
        Some(onnx) => Ok(Chosen { onnx: onnx.clone(), precision: ActivePrecision::Int8Fp16, note: None }),
        None => signed(int8()?, None),
    }
}

fn int8_on_cpu(onnx: Arc<[u8]>, cpu: &Cpu) -> Result<Chosen, Unavailable> {
    match cpu {
        Cpu::Other => signed(onnx, None),
        Cpu::X86 => signed(
            onnx,
            Some(
                "this processor has neither AVX-VNNI nor AVX512-VNNI: the signed graph runs, slower than FP32 would",
            ),
        ),
        Cpu::X86Vnni => match rewrite::unsigned_activations(&onnx) {
            Ok(rewritten) => unsigned(rewritten),
            Err(error) => signed(onnx, Some(&format!("not rewritten for this processor: {error}"))),
        },
    }
}

fn signed(onnx: Arc<[u8]>, note: Option<&str>) -> Result<Chosen, Unavailable> {
    Ok(Chosen { onnx, precision: ActivePrecision::Int8S8, note: note.map(str::to_owned) })
}

fn unsigned(rewritten: rewrite::Rewritten) -> Result<Chosen, Unavailable> {
    Ok(Chosen { onnx: rewritten.onnx.into(), precision: ActivePrecision::Int8U8, note: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, BUCKETS};
    use ActivePrecision::{Fp32, Int8S8, Int8U8};
    use EngineKind::{OrtCpu, OrtCuda, OrtOpenvino, OrtTensorrt, Tract};

    fn chosen(
        graphs: &Graphs,
        kind: EngineKind,
        asked: Precision,
        cpu: Cpu,
    ) -> Option<(ActivePrecision, bool)> {
        let chosen = choose(graphs, kind, asked, &cpu).ok()?;
        Some((chosen.precision, chosen.note.is_some()))
    }

    #[test]
    fn int8_is_chosen_where_its_kernels_are_exact_and_every_detour_is_noted() {
        let graphs = testing::graphs(1);
        let table = [
            (OrtCpu, Precision::Auto, Cpu::X86Vnni, Some((Int8U8, false))),
            (OrtCpu, Precision::Auto, Cpu::X86, Some((Fp32, true))),
            (OrtCpu, Precision::Auto, Cpu::Other, Some((Int8S8, false))),
            (OrtCpu, Precision::Int8, Cpu::X86Vnni, Some((Int8U8, false))),
            (OrtCpu, Precision::Int8, Cpu::X86, Some((Int8S8, true))),
            (OrtCpu, Precision::Int8, Cpu::Other, Some((Int8S8, false))),
            (OrtCpu, Precision::Fp32, Cpu::X86Vnni, Some((Fp32, false))),
            (OrtCuda, Precision::Auto, Cpu::X86Vnni, Some((Fp32, true))),
            (OrtOpenvino, Precision::Auto, Cpu::X86Vnni, Some((Int8S8, false))),
            (OrtOpenvino, Precision::Auto, Cpu::X86, Some((Fp32, true))),
            (OrtTensorrt, Precision::Auto, Cpu::X86Vnni, Some((Int8S8, false))),
            (OrtTensorrt, Precision::Int8, Cpu::X86, Some((Int8S8, false))),
            (Tract, Precision::Auto, Cpu::X86Vnni, Some((Fp32, true))),
            (Tract, Precision::Fp32, Cpu::Other, Some((Fp32, false))),
            (Tract, Precision::Int8, Cpu::Other, None),
        ];
        for (kind, asked, cpu, expected) in table {
            assert_eq!(chosen(&graphs, kind, asked, cpu), expected, "{kind} {asked:?} {cpu:?}");
        }
    }

    #[test]
    fn tensorrt_takes_the_graph_in_half_precision_where_there_is_one() {
        let half = Graphs { int8_fp16: testing::graphs(1).int8, ..testing::graphs(1) };
        for asked in [Precision::Auto, Precision::Int8] {
            let of = |kind| chosen(&half, kind, asked, Cpu::X86Vnni).unwrap().0;
            assert_eq!((of(OrtTensorrt), of(OrtCpu)), (ActivePrecision::Int8Fp16, Int8U8));
        }
        let refused = Graphs { int8_refused: Some("over the budget".into()), ..half };
        assert_eq!(chosen(&refused, OrtTensorrt, Precision::Auto, Cpu::X86Vnni), Some((Fp32, true)));
    }

    #[test]
    fn what_the_bundle_lacks_is_said() {
        let fp32 = Graphs { int8: None, ..testing::graphs(1) };
        assert_eq!(chosen(&fp32, OrtCpu, Precision::Auto, Cpu::X86Vnni), Some((Fp32, true)));
        assert_eq!(chosen(&fp32, OrtCpu, Precision::Int8, Cpu::X86Vnni), None);
        let int8 = Graphs { fp32: None, ..testing::graphs(1) };
        assert_eq!(chosen(&int8, OrtCpu, Precision::Fp32, Cpu::X86Vnni), None);
        assert_eq!(chosen(&int8, Tract, Precision::Auto, Cpu::X86Vnni), None);
        let nothing = Graphs::from_onnx(None, None, &BUCKETS, 1, 1, 0);
        assert_eq!(chosen(&nothing, OrtCpu, Precision::Auto, Cpu::X86Vnni), None);
    }

    #[test]
    fn an_int8_graph_over_its_accuracy_budget_runs_only_when_asked_for() {
        let graphs = Graphs { int8_refused: Some("over the budget".into()), ..testing::graphs(1) };
        assert_eq!(chosen(&graphs, OrtCpu, Precision::Auto, Cpu::X86Vnni), Some((Fp32, true)));
        assert_eq!(chosen(&graphs, OrtCpu, Precision::Int8, Cpu::X86Vnni), Some((Int8U8, false)));
    }
}
