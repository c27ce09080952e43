//! A step that has been run, as one node of candle's graph.

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::slices::contiguous;

/// Puts `output`, computed from `x` and `parameters` without a graph, into the graph: `backward` takes the
/// output's gradient to theirs. candle's backward pass clears a buffer and adds to it for every node;
/// a layer of a dozen steps pays that once.
///
/// # Errors
/// An output that is not f32 on the CPU.
pub(crate) fn recorded<F>(x: &Tensor, parameters: &Tensor, output: &Tensor, backward: F) -> Result<Tensor>
where
    F: Fn(&Tensor) -> Result<(Tensor, Tensor)> + Send + Sync + 'static,
{
    let values = (output.flatten_all()?.to_vec1()?, output.shape().clone());
    x.apply_op2(parameters, Recorded { output: Mutex::new(Some(values)), backward })
}

struct Recorded<F> {
    output: Mutex<Option<(Vec<f32>, Shape)>>,
    backward: F,
}

impl<F: Fn(&Tensor) -> Result<(Tensor, Tensor)> + Send + Sync> CustomOp2 for Recorded<F> {
    fn name(&self) -> &'static str {
        "locus-recorded"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        match self.output.lock().ok().and_then(|mut output| output.take()) {
            Some((values, shape)) => Ok((CpuStorage::F32(values), shape)),
            None => bail!("recorded: got a second forward pass, expected one"),
        }
    }

    fn bwd(
        &self,
        _x: &Tensor,
        _parameters: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dparameters) = (self.backward)(&contiguous(g)?)?;
        Ok((Some(dx), Some(dparameters)))
    }
}
