//! Everybody who is connected: strangers are few and the oldest one makes room, those who were recognised are many.
//!
//! A thousand connections that say nothing so never keep out somebody who says who it is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{Identity, Refusal};

/// Connections of whoever was not recognised yet.
const STRANGERS: usize = 128;
/// Connections of whoever was.
const KNOWN: usize = 256;
/// Of these, of one name.
const OF_ONE: usize = 64;

/// Most connections of a transport at once.
pub(crate) const MOST: usize = STRANGERS + KNOWN;

/// The connections of a transport.
#[derive(Debug)]
pub(crate) struct Guests {
    transport: &'static str,
    limits: (usize, usize, usize),
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    all: BTreeMap<u64, Seat>,
    strangers: BTreeSet<u64>,
    of_one: HashMap<Arc<str>, usize>,
}

#[derive(Debug)]
struct Seat {
    cut: CancellationToken,
    identity: Option<Identity>,
}

/// One connection, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Guest {
    id: u64,
    cut: CancellationToken,
    guests: Arc<Guests>,
}

impl Guests {
    pub(crate) fn new(transport: &'static str) -> Arc<Self> {
        Self::with_limits(transport, (STRANGERS, KNOWN, OF_ONE))
    }

    /// `limits`: most strangers, most that were recognised, and most of these of one name.
    pub(crate) fn with_limits(transport: &'static str, limits: (usize, usize, usize)) -> Arc<Self> {
        Arc::new(Self { transport, limits, inner: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a stranger; where there are too many, the oldest one is cut off.
    pub(crate) fn enter(self: &Arc<Self>) -> Arc<Guest> {
        let cut = CancellationToken::new();
        let mut inner = self.lock();
        if inner.strangers.len() >= self.limits.0
            && let Some(oldest) = inner.strangers.pop_first()
            && let Some(seat) = inner.all.remove(&oldest)
        {
            seat.cut.cancel();
            Refusal::Crowded.count(self.transport);
        }
        let id = inner.next;
        inner.next += 1;
        inner.strangers.insert(id);
        inner.all.insert(id, Seat { cut: cut.clone(), identity: None });
        drop(inner);
        Arc::new(Guest { id, cut, guests: Arc::clone(self) })
    }

    /// Cuts off everybody who was recognised and for whom `stays` does not hold; how many.
    pub(crate) fn cut_unless(&self, stays: impl Fn(&Identity) -> bool) -> usize {
        let inner = self.lock();
        let mut cut = 0;
        for seat in inner.all.values() {
            if !seat.cut.is_cancelled() && seat.identity.as_ref().is_some_and(|one| !stays(one)) {
                seat.cut.cancel();
                cut += 1;
            }
        }
        cut
    }
}

impl Guest {
    /// Says who it is; the first to be recognised on a connection counts.
    ///
    /// # Errors
    /// [`Refusal::Crowded`] where too many are connected.
    pub(crate) fn recognise(&self, identity: &Identity) -> Result<(), Refusal> {
        let (_, known, of_one) = self.guests.limits;
        let mut inner = self.guests.lock();
        if self.cut.is_cancelled() {
            return Err(Refusal::Crowded);
        }
        if inner.all.get(&self.id).is_none_or(|seat| seat.identity.is_some()) {
            return Ok(());
        }
        let mine = inner.of_one.get(&identity.name).copied().unwrap_or(0);
        if inner.all.len() - inner.strangers.len() >= known || mine >= of_one {
            return Err(Refusal::Crowded);
        }
        inner.strangers.remove(&self.id);
        inner.of_one.insert(Arc::clone(&identity.name), mine + 1);
        if let Some(seat) = inner.all.get_mut(&self.id) {
            seat.identity = Some(identity.clone());
        }
        Ok(())
    }

    /// Resolves once the connection has to end.
    pub(crate) fn ended(&self) -> WaitForCancellationFutureOwned {
        self.cut.clone().cancelled_owned()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut inner = self.guests.lock();
        inner.strangers.remove(&self.id);
        let Some(identity) = inner.all.remove(&self.id).and_then(|seat| seat.identity) else { return };
        if let Some(count) = inner.of_one.get_mut(&identity.name) {
            *count -= 1;
            if *count == 0 {
                inner.of_one.remove(&identity.name);
            }
        }
    }
}

/// A stream that ends, both ways, when its guest is cut off.
#[derive(Debug)]
pub(crate) struct Cut<S> {
    inner: S,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _guest: Arc<Guest>,
}

impl<S> Cut<S> {
    pub(crate) fn new(inner: S, guest: Arc<Guest>) -> Self {
        Self { inner, ended: Box::pin(guest.ended()), _guest: guest }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.ended.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cut<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cut<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::access::Role;

    fn somebody(name: &str) -> Identity {
        Identity { name: name.into(), role: Role::Terminal, credential: Some([name.len() as u8; 32]) }
    }

    #[test]
    fn the_oldest_stranger_makes_room_and_whoever_was_recognised_stays() {
        let guests = Guests::with_limits("test", (2, 2, 2));
        let known = guests.enter();
        known.recognise(&somebody("a")).unwrap();
        let (first, second, third) = (guests.enter(), guests.enter(), guests.enter());
        assert!(first.cut.is_cancelled() && !second.cut.is_cancelled() && !third.cut.is_cancelled());
        assert!(!known.cut.is_cancelled());
        assert_eq!(first.recognise(&somebody("b")), Err(Refusal::Crowded), "it is gone already");
        second.recognise(&somebody("b")).unwrap();
        assert_eq!(third.recognise(&somebody("c")), Err(Refusal::Crowded), "two are known");
        drop(known);
        third.recognise(&somebody("c")).unwrap();
        drop((first, second, third));
        let inner = guests.lock();
        assert!(inner.all.is_empty() && inner.strangers.is_empty() && inner.of_one.is_empty());
    }

    #[test]
    fn one_name_cannot_take_every_place() {
        let guests = Guests::with_limits("test", (8, 8, 2));
        let all: Vec<_> = (0..3).map(|_| guests.enter()).collect();
        all[0].recognise(&somebody("a")).unwrap();
        all[1].recognise(&somebody("a")).unwrap();
        assert_eq!(all[2].recognise(&somebody("a")), Err(Refusal::Crowded));
        all[2].recognise(&somebody("b")).unwrap();
        all[2].recognise(&somebody("b")).unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_waits_ends_when_it_is_cut_off_and_the_others_go_on() {
        let guests = Guests::with_limits("test", (8, 8, 8));
        let (one, other) = (guests.enter(), guests.enter());
        one.recognise(&somebody("a")).unwrap();
        other.recognise(&somebody("b")).unwrap();
        let ((ours, _theirs), (ours2, mut theirs2)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let (mut cut, mut kept) = (Cut::new(ours, one), Cut::new(ours2, other));
        let waiting = tokio::spawn(async move { cut.read_u8().await });
        tokio::task::yield_now().await;
        assert_eq!(guests.cut_unless(|who| &*who.name != "a"), 1);
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        theirs2.write_u8(7).await.unwrap();
        assert_eq!(kept.read_u8().await.unwrap(), 7);
    }
}
