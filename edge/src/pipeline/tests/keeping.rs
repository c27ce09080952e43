//! Which thread keeps an answer, and what follows where one breaks off.

use std::sync::Mutex;

use super::*;

/// A clock that knows which threads asked it, and may have a defect.
#[derive(Debug, Default)]
struct TellingClock {
    defect: AtomicBool,
    asked_by: Mutex<Vec<String>>,
}

impl TellingClock {
    /// Who asked since the last call.
    fn asked_by(&self) -> Vec<String> {
        std::mem::take(&mut self.asked_by.lock().unwrap())
    }
}

impl Clock for TellingClock {
    fn unix_ms(&self) -> u64 {
        assert!(!self.defect.load(Ordering::Acquire), "the clock has a defect");
        self.asked_by.lock().unwrap().push(std::thread::current().name().unwrap_or_default().to_owned());
        0
    }

    fn monotonic_ms(&self) -> u64 {
        self.unix_ms()
    }
}

fn telling() -> (Arc<TellingClock>, Box_) {
    let clock = Arc::new(TellingClock::default());
    let made = Setup { clock: clock.clone(), ..Setup::default() }.start();
    made.pipeline.swap(scorer()).unwrap();
    (clock, made)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_answer_is_kept_where_it_was_made_and_several_beside_the_inference() {
    let (clock, made) = telling();
    clock.asked_by();
    assert_eq!(index(&made.ask(request("alone")).await), 0);
    assert!(clock.asked_by().contains(&"inference".to_owned()));
    let held = made.hold().await;
    clock.asked_by();
    let mut asked = Vec::new();
    for n in 0..4 {
        asked.push(made.queue(request(&n.to_string())).await);
    }
    drop(held);
    let mut kept = Vec::new();
    for outcome in asked {
        kept.push(index(&outcome.await.unwrap()));
    }
    kept.sort_unstable();
    assert_eq!(kept, [1, 2, 3, 4]);
    assert!(clock.asked_by().contains(&"journal".to_owned()));
    let vfs = made.stop();
    let device = read_device_public(&vfs, Path::new("/keys/device.key.pub")).unwrap();
    let report = verify(&vfs, Path::new("/journal"), &device, &Witnesses::default()).unwrap();
    assert_eq!((report.records, report.findings.len()), (5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_ends_by_a_defect_ends_the_box() {
    let (clock, made) = telling();
    index(&made.ask(request("a")).await);
    clock.defect.store(true, Ordering::Release);
    assert!(matches!(&*made.ask(request("b")).await, Outcome::Fault(fault) if fault.retryable));
    until("end", || made.pipeline.failed().is_some()).await;
    assert!(matches!(&*made.ask(request("c")).await, Outcome::Fault(fault) if fault.retryable));
    let fatal = Arc::clone(&made.fatal);
    made.stop();
    // Whichever of the two looked at the clock first.
    let said = fatal.lock().unwrap().clone();
    assert!(
        matches!(said.as_slice(), [one] if ["inference", "journal"].iter().any(|thread| *one == format!("the {thread} thread ended by a defect"))),
        "{said:?}"
    );
}
