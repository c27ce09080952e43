//! A disk that fails, and one that has no room.

use std::io;

use super::*;

/// G5: each write and each sync fails once, in both ways and for good: from there on no answer, and a word at once.
#[tokio::test(flavor = "multi_thread")]
async fn g5_after_a_failed_write_or_sync_nobody_is_answered_and_all_are_told_within_a_second() {
    let (mut faults, mut slowest) = (0, Duration::ZERO);
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        for lasting in [false, true] {
            for at in 1.. {
                let made = Box_::new();
                index(&made.ask(request("before")).await);
                let start = made.vfs.operations();
                let fault = if lasting { DiskFault::Lasting(kind) } else { DiskFault::Error(kind) };
                made.vfs.fail_at(start + at, fault);
                let mut failed = false;
                for n in 0..3 {
                    let asked = Request { subject: Some(format!("s{n}")), ..request(&format!("r{n}")) };
                    let began = Instant::now();
                    let outcome = made.ask(asked).await;
                    slowest = slowest.max(began.elapsed());
                    match &*outcome {
                        Outcome::Answer(_) => assert!(!failed, "an answer after operation {at} failed"),
                        Outcome::Fault(fault) => {
                            assert_eq!(fault.code, FaultCode::JournalFailed);
                            failed = true;
                        }
                    }
                }
                let reached = made.vfs.operations() >= start + at;
                assert_eq!((failed, made.pipeline.failed().is_some()), (reached, reached), "operation {at}");
                made.stop();
                if !reached {
                    break;
                }
                faults += 1;
            }
        }
    }
    println!("G5: {faults} disk faults: no answer after one, the slowest word after {slowest:?}");
    assert!(faults >= 20 && slowest < Duration::from_secs(1), "{faults} {slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_whose_reserve_is_touched_refuses_what_is_new_and_recovers_by_itself() {
    let made = Box_::new();
    let first = index(&made.ask(request("a")).await);
    made.vfs.set_free_bytes(RESERVE - 1);
    let began = Instant::now();
    until("refusal", || made.pipeline.journal().space().short()).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let refused = made.ask(request("b")).await;
    assert_eq!(code(&refused), FaultCode::StorageFull);
    let Outcome::Fault(fault) = &*refused else { panic!("answered") };
    assert!(fault.retryable && fault.retry_after_ms.is_some());
    assert_eq!(index(&made.ask(request("a")).await), first, "what is durable is told again");
    made.vfs.set_free_bytes(RESERVE * 2);
    until("room", || !made.pipeline.journal().space().short()).await;
    assert_eq!(index(&made.ask(request("b")).await), first + 1, "nothing was kept of the refused one");
    assert_eq!(made.pipeline.failed(), None);
    made.stop();
}
