//! Ranks that train one model together: the seam, and what is behind it on CPUs and on GPUs.

mod link;
#[cfg(feature = "cuda")]
mod nccl;
mod ring;

use candle_core::Device;

pub use ring::Ring;

use super::Ranks;
use crate::Result;

/// Exchange between ranks. Every rank makes the same calls in the same order.
pub trait Collective {
    /// Number of this rank.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn world(&self) -> usize;

    /// Replaces `values` by their sums over all ranks, added in a fixed order: the same bits on every rank and in
    /// every run.
    ///
    /// # Errors
    /// [`Error::Peer`](crate::Error::Peer): a rank that ended, or sends as many values as another model has.
    fn all_reduce(&mut self, values: &mut [f32]) -> Result<()>;

    /// Gives every rank what rank 0 says; the others' `value` is not looked at.
    ///
    /// # Errors
    /// As [`Collective::all_reduce`].
    fn share_first(&mut self, value: bool) -> Result<bool>;

    /// Tells the others, as far as they can be reached, why this rank stops.
    fn abort(&mut self, why: &crate::Error);
}

/// Waits until all ranks are there, and takes the fastest way between them: NCCL where each has a GPU, else TCP.
/// `digest` says what is trained, from where.
///
/// # Errors
/// As [`Ring::join`].
pub(super) fn join(
    ranks: &Ranks,
    digest: impl FnOnce() -> Result<String>,
    device: &Device,
) -> Result<Box<dyn Collective>> {
    if ranks.world == 1 {
        return Ok(Box::new(Alone));
    }
    let ring = Ring::join(ranks, &digest()?)?;
    if device.is_cuda() {
        return over_gpus(ring, device);
    }
    Ok(Box::new(ring))
}

#[cfg(feature = "cuda")]
use nccl::over as over_gpus;

#[cfg(not(feature = "cuda"))]
fn over_gpus(ring: Ring, _: &Device) -> Result<Box<dyn Collective>> {
    Ok(Box::new(ring))
}

/// One process alone.
#[derive(Debug)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn all_reduce(&mut self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn share_first(&mut self, value: bool) -> Result<bool> {
        Ok(value)
    }

    fn abort(&mut self, _: &crate::Error) {}
}
