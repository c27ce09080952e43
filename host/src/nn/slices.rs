//! Getting at contiguous f32 storage, and running a kernel over rows on every core.

use candle_core::{CpuStorage, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Rows per unit of parallel work: large enough to amortise a task, small enough for two cores.
const ROWS: usize = 64;

pub(crate) fn f32s<'a>(storage: &'a CpuStorage, layout: &Layout, op: &'static str) -> Result<&'a [f32]> {
    let slice = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&slice[from..to]),
        None => bail!("{op}: got a tensor that is not contiguous, expected a contiguous one"),
    }
}

pub(crate) fn out(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

/// Says so where a vector is not as long as the rows of `x`: kernels zip, and would stop at the shorter.
pub(crate) fn expect_width(op: &'static str, x: &Tensor, vectors: &[&Tensor]) -> Result<()> {
    let h = x.dims().last().copied().unwrap_or(0);
    match vectors.iter().find(|v| h == 0 || v.dims() != [h]) {
        Some(v) => bail!("{op}: got a vector of {:?} for rows of {:?}, expected as wide", v.dims(), x.dims()),
        None => Ok(()),
    }
}

/// Width of the last dimension.
pub(crate) fn width(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1)
}

// A closure handed to `dispatch` as it is would be called through a shim that is not inlined, and its
// body compiled without this CPU's vector instructions; these call it directly.
struct Block<'a, K> {
    kernel: &'a K,
    first: usize,
    block: &'a mut [f32],
}

impl<K: Fn(usize, &mut [f32])> pulp::NullaryFnOnce for Block<'_, K> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        (self.kernel)(self.first, self.block);
    }
}

struct Term<'a, K> {
    term: &'a K,
    rows: std::ops::Range<usize>,
    sum: &'a mut [f32],
}

impl<K: Fn(std::ops::Range<usize>, &mut [f32])> pulp::NullaryFnOnce for Term<'_, K> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        (self.term)(self.rows, self.sum);
    }
}

/// A closure that changes what it captures, called directly.
pub(crate) struct Direct<F>(pub(crate) F);

impl<F: FnMut()> pulp::NullaryFnOnce for Direct<F> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        (self.0)();
    }
}

/// Calls `kernel(first_row, output rows)` for blocks of `width`-wide rows, vectorised for this CPU.
pub(crate) fn by_rows(output: &mut [f32], width: usize, kernel: impl Fn(usize, &mut [f32]) + Sync) {
    let arch = pulp::Arch::new();
    output.par_chunks_mut(ROWS * width).enumerate().for_each(|(i, block)| {
        arch.dispatch(Block { kernel: &kernel, first: i * ROWS, block });
    });
}

/// Sums `term(first_row, rows, accumulator)` over blocks in a fixed order, so that the result does not
/// depend on which thread was faster.
pub(crate) fn reduce_rows(
    rows: usize,
    width: usize,
    term: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    const BLOCK: usize = 1024;
    let arch = pulp::Arch::new();
    let partial: Vec<Vec<f32>> = (0..rows.div_ceil(BLOCK))
        .into_par_iter()
        .map(|i| {
            let mut sum = vec![0.0; width];
            arch.dispatch(Term { term: &term, rows: i * BLOCK..rows.min((i + 1) * BLOCK), sum: &mut sum });
            sum
        })
        .collect();
    let mut total = vec![0.0; width];
    for sum in &partial {
        total.iter_mut().zip(sum).for_each(|(t, s)| *t += s);
    }
    total
}

/// Gradients arrive in whatever layout the next op's backward produced.
pub(crate) fn contiguous(gradient: &Tensor) -> Result<Tensor> {
    gradient.contiguous()
}
