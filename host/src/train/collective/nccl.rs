//! Sums over GPUs by NCCL. The ring stays beside it: it brings the ranks together, carries what is said between them, and
//! notices one that ends, which NCCL by itself would wait for without end.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use candle_core::Device;
use cudarc::{
    driver::CudaStream,
    nccl::{Comm, Id, ReduceOp},
};

use super::{Collective, Ring};
use crate::{Error, Result};

/// Time for a sum in which every rank was about to take part.
const SUM: Duration = Duration::from_secs(30);
/// Between looks at whether a sum is done.
const LOOK: Duration = Duration::from_micros(50);
/// Bytes of NCCL's name for a group of ranks.
const ID: usize = 128;

/// Ranks with a GPU each.
pub(super) struct Nccl {
    comm: Comm,
    stream: Arc<CudaStream>,
    ring: Ring,
}

/// Sets NCCL up over the ranks of a ring. Where it does not start on every one of them, all keep the ring, and this one
/// says why.
pub(super) fn over(mut ring: Ring, device: &Device) -> Result<Box<dyn Collective>> {
    let started = start(&mut ring, device)?;
    let mut able = [f32::from(u8::from(started.is_ok()))];
    ring.all_reduce(&mut able)?;
    let why = match started {
        Ok((comm, stream)) if able[0] as usize == ring.world() => {
            return Ok(Box::new(Nccl { comm, stream, ring }));
        }
        Ok(_) => "on another rank".into(),
        Err(why) => why,
    };
    complain!("NCCL did not start ({why}): gradients go over TCP");
    Ok(Box::new(ring))
}

impl Nccl {
    fn wrong(&self, what: impl std::fmt::Debug) -> Error {
        Error::Peer { rank: self.ring.rank(), what: format!("NCCL: {what:?}") }
    }
}

/// The group of all ranks as NCCL has it; inside, why it is not to be had.
fn start(ring: &mut Ring, device: &Device) -> Result<Result<(Comm, Arc<CudaStream>), String>> {
    let first = if ring.rank() == 0 { Id::new().map_err(|e| format!("{e:?}")) } else { Err(String::new()) };
    // Rank 0's name of the group, summed with zeros; without one all zeros, which no group is called.
    let mut name = [0.0; ID];
    if let Ok(id) = &first {
        name.iter_mut().zip(id.internal()).for_each(|(n, byte)| *n = f32::from(*byte as u8));
    }
    ring.all_reduce(&mut name)?;
    if name.iter().all(|n| *n == 0.0) {
        return Ok(Err(first
            .err()
            .filter(|why| !why.is_empty())
            .unwrap_or_else(|| "rank 0 has none".into())));
    }
    let stream = device.as_cuda_device()?.cuda_stream();
    let id = Id::uninit(name.map(|n| n as u8 as core::ffi::c_char));
    let joined = stream.context().bind_to_thread().map_err(|e| e.to_string()).and_then(|()| {
        Comm::from_rank(stream.clone(), ring.rank(), ring.world(), id).map_err(|e| format!("{e:?}"))
    });
    Ok(joined.map(|comm| (comm, stream)))
}

impl Collective for Nccl {
    fn rank(&self) -> usize {
        self.ring.rank()
    }

    fn world(&self) -> usize {
        self.ring.world()
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<()> {
        // Every rank is alive and has come this far.
        self.ring.all_reduce(&mut [0.0])?;
        let mut on_gpu = self.stream.clone_htod(&*values).map_err(|e| self.wrong(e))?;
        self.comm.all_reduce_in_place(&mut on_gpu, &ReduceOp::Sum).map_err(|e| self.wrong(e))?;
        let done = self.stream.record_event(None).map_err(|e| self.wrong(e))?;
        let until = Instant::now() + SUM;
        while !done.is_complete() {
            if Instant::now() > until {
                return Err(self.wrong(format!("no sum within {} s", SUM.as_secs())));
            }
            thread::sleep(LOOK);
        }
        self.stream.memcpy_dtoh(&on_gpu, values).map_err(|e| self.wrong(e))
    }

    fn share_first(&mut self, value: bool) -> Result<bool> {
        self.ring.share_first(value)
    }

    fn abort(&mut self, why: &Error) {
        self.ring.abort(why);
    }
}
