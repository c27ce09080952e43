//! Batches made ahead of time, on a thread of their own.

use std::{ops::Range, sync::mpsc, thread::Scope};

use super::Objective;
use crate::{Error, Result};

/// Batches that wait at most.
const AHEAD: usize = 2;

/// Makes the batches of the steps and rows in `order`, in that order; ends early where nobody takes them any more.
pub(super) fn load<'scope, O: Objective>(
    scope: &'scope Scope<'scope, '_>,
    objective: &'scope O,
    order: impl Iterator<Item = (u64, Range<usize>)> + Send + 'scope,
) -> Batches<O::Batch>
where
    O::Batch: 'scope,
{
    let (give, take) = mpsc::sync_channel(AHEAD);
    scope.spawn(move || {
        for (step, rows) in order {
            let batch = objective.batch(step, rows);
            let failed = batch.is_err();
            if give.send(batch).is_err() || failed {
                return;
            }
        }
    });
    Batches(take)
}

/// Batches as they are needed.
pub(super) struct Batches<B>(mpsc::Receiver<Result<B>>);

impl<B> Batches<B> {
    /// The next batch.
    ///
    /// # Errors
    /// Data that cannot be read.
    pub(super) fn next(&self) -> Result<B> {
        self.0.recv().unwrap_or_else(|_| {
            Err(Error::Data {
                what: "batches".into(),
                got: "none any more: the loading thread ended".into(),
                expected: "one for every step".into(),
            })
        })
    }
}
