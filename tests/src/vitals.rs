//! What the system says of a running program.

use std::{fs, time::Duration};

/// What a process takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    /// The most that it ever had.
    pub peak_kib: u64,
    /// Open files.
    pub files: usize,
}

/// Of a process; `None` where it is gone.
pub fn vitals(pid: u32) -> Option<Vitals> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some(Vitals { rss_kib: kib("VmRSS:")?, peak_kib: kib("VmHWM:")?, files })
}

/// Processor time of a process so far; `None` where it is gone.
pub fn processor_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: utime and stime are the 12th and 13th, in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().ok());
    Some(Duration::from_millis(10 * ticks.sum::<Option<u64>>()?))
}
