//! Tells systemd that the box gets on, and only while it does.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::pipeline::Pipeline;

/// Sends `WATCHDOG=1` three times in the time that systemd waits for one (`limit`, `WatchdogSec=` of the unit), as long as the
/// inference thread takes orders and the journal thread comes round.
pub async fn run(limit: Duration, pipeline: Pipeline, stop: CancellationToken) {
    let beat = (limit / 3).max(Duration::from_millis(1));
    let mut told = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(beat) => {}
        }
        let asked = pipeline.clone();
        let gets_on = tokio::task::spawn_blocking(move || asked.gets_on(beat)).await.unwrap_or(false);
        if gets_on {
            told = false;
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        } else if !told {
            told = true;
            tracing::error!(
                "a thread of the pipeline does not get on; systemd is not told that the box is well"
            );
        }
    }
}
