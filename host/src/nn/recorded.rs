//! A step that has been run, as one node of candle's graph.

use std::sync::Mutex;

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Storage, Tensor,
    backend::BackendStorage, bail,
};

use super::slices::{contiguous, f32s, out};

const NAME: &str = "locus-recorded";

/// Puts `output`, computed from `x` and `parameters` without a graph, into the graph: `backward` takes the
/// output's gradient to theirs. candle's backward pass clears a buffer and adds to it for every node;
/// a layer of a dozen steps pays that once.
///
/// # Errors
/// An output that is not f32, or on another device than its inputs.
pub(crate) fn recorded<F>(x: &Tensor, parameters: &Tensor, output: &Tensor, backward: F) -> Result<Tensor>
where
    F: Fn(&Tensor) -> Result<(Tensor, Tensor)> + Send + Sync + 'static,
{
    x.apply_op2(parameters, Recorded { output: Output::of(output)?, backward })
}

/// The same without parameters.
///
/// # Errors
/// As [`recorded`].
pub(crate) fn recorded_alone<F>(x: &Tensor, output: &Tensor, backward: F) -> Result<Tensor>
where
    F: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
{
    x.apply_op1(Recorded { output: Output::of(output)?, backward })
}

struct Recorded<F> {
    output: Output,
    backward: F,
}

/// Given away to the graph, so that it is not kept twice.
struct Output(Mutex<Option<Tensor>>);

impl Output {
    fn of(output: &Tensor) -> Result<Self> {
        let output = output.contiguous()?;
        let whole = output.layout().start_offset() == 0;
        Ok(Self(Mutex::new(Some(if whole { output } else { output.force_contiguous()? }))))
    }

    fn take(&self) -> Result<Tensor> {
        match self.0.lock().ok().and_then(|mut output| output.take()) {
            Some(output) => Ok(output),
            None => bail!("recorded: got a second forward pass, expected one"),
        }
    }

    fn on_cpu(&self) -> Result<(CpuStorage, Shape)> {
        let output = self.take()?;
        let (storage, layout) = output.storage_and_layout();
        match &*storage {
            Storage::Cpu(storage) => out(f32s(storage, layout, NAME)?.to_vec(), output.shape().clone()),
            _ => bail!("recorded: got an output on {:?}, expected it on the CPU", output.device()),
        }
    }

    fn on_cuda(&self) -> Result<(CudaStorage, Shape)> {
        let output = self.take()?;
        let (storage, layout) = output.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => Ok((storage.try_clone(layout)?, output.shape().clone())),
            _ => bail!("recorded: got an output on {:?}, expected it on the GPU", output.device()),
        }
    }
}

impl<F: Fn(&Tensor) -> Result<(Tensor, Tensor)> + Send + Sync> CustomOp2 for Recorded<F> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.output.on_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.output.on_cuda()
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

impl<F: Fn(&Tensor) -> Result<Tensor> + Send + Sync> CustomOp1 for Recorded<F> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.output.on_cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.output.on_cuda()
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some((self.backward)(&contiguous(g)?)?))
    }
}
