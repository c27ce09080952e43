//! Ranks that train one model together: the seam, and what is behind it on CPUs.

mod link;
mod ring;

pub use ring::Ring;

use crate::Result;

/// Exchange between ranks. Every rank makes the same calls in the same order.
pub trait Collective: Send {
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
