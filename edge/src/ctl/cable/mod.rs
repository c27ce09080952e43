//! `locusctl cable`: a serial cable without hardware, with noise and a loose plug if wanted, to try terminals and boxes on.

mod noise;

use std::{
    future::pending,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_serial::{SerialPort as _, SerialStream};

use noise::Noise;

/// A frame of which nothing came for so long has ended.
const QUIET: Duration = Duration::from_millis(20);

/// The two ends, and what the cable does to what it carries. Shares are from 0 to 0.5; frames end with a zero byte, or
/// where nothing follows for 20 ms.
#[derive(Clone, Debug, clap::Args)]
pub struct CableArgs {
    /// Link to make for the box's end
    pub r#box: PathBuf,
    /// Link to make for the terminal's end
    pub terminal: PathBuf,
    /// Share of bits that are flipped, such as 1e-4
    #[arg(long, default_value_t = 0.0)]
    pub bit_errors: f64,
    /// Share of bytes that are lost
    #[arg(long, default_value_t = 0.0)]
    pub lost_bytes: f64,
    /// Share of bytes that come twice
    #[arg(long, default_value_t = 0.0)]
    pub doubled_bytes: f64,
    /// Share of frames that are lost
    #[arg(long, default_value_t = 0.0)]
    pub lost_frames: f64,
    /// Share of frames that come twice
    #[arg(long, default_value_t = 0.0)]
    pub doubled_frames: f64,
    /// Share of frames that come in two pieces, with a pause between
    #[arg(long, default_value_t = 0.0)]
    pub split_frames: f64,
    /// That pause
    #[arg(long, default_value_t = 30)]
    pub split_ms: u64,
    /// Pulls the box's end out so often; its link is gone, and comes back as another device
    #[arg(long)]
    pub unplug_every_ms: Option<u64>,
    /// How long it stays out
    #[arg(long, default_value_t = 500)]
    pub unplug_for_ms: u64,
    /// Seed of the noise
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// One end. It is there until the link goes.
struct End {
    reader: ReadHalf<SerialStream>,
    writer: WriteHalf<SerialStream>,
    _link: Link,
}

struct Link {
    path: PathBuf,
    /// Held open: a pty without a user reads as broken.
    _user: OwnedFd,
}

impl Drop for Link {
    fn drop(&mut self) {
        unlink(&self.path);
    }
}

/// Takes a link away, and nothing else that may stand there.
fn unlink(path: &Path) {
    if path.is_symlink() {
        let _ = std::fs::remove_file(path);
    }
}

fn end(link: &Path) -> Result<End> {
    let (controller, user) = SerialStream::pair()?;
    let name = user.name().context("a pty without a name")?;
    let held = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    unlink(link);
    std::os::unix::fs::symlink(&name, link).with_context(|| link.display().to_string())?;
    let (reader, writer) = tokio::io::split(controller);
    Ok(End { reader, writer, _link: Link { path: link.to_owned(), _user: held } })
}

/// What was sent to an end that is not there: read, and gone.
async fn drain(reader: &mut ReadHalf<SerialStream>) -> u64 {
    let (mut bytes, mut gone) = ([0; 4_096], 0);
    while let Ok(Ok(n @ 1..)) = timeout(Duration::ZERO, reader.read(&mut bytes)).await {
        gone += n as u64;
    }
    gone
}

async fn carry(
    from: &mut ReadHalf<SerialStream>,
    to: &mut WriteHalf<SerialStream>,
    noise: &mut Noise,
    pause: Duration,
) -> io::Result<()> {
    let mut bytes = [0; 4_096];
    loop {
        let pieces = if noise.waits() {
            match timeout(QUIET, from.read(&mut bytes)).await {
                Ok(read) => noise.carry(&bytes[..read?], pause),
                Err(_) => noise.idle(pause),
            }
        } else {
            let n = from.read(&mut bytes).await?;
            noise.carry(&bytes[..n], pause)
        };
        for (before, piece) in pieces {
            if !before.is_zero() {
                sleep(before).await;
            }
            to.write_all(&piece).await?;
        }
    }
}

/// Runs until SIGTERM or SIGINT, or until standard input ends where that is a pipe; then it says what it did to what it carried.
///
/// # Errors
/// The system gives no ptys, or a link cannot be made.
pub fn run(args: &CableArgs) -> Result<ExitCode> {
    for (name, share) in [
        ("bit-errors", args.bit_errors),
        ("lost-bytes", args.lost_bytes),
        ("doubled-bytes", args.doubled_bytes),
        ("lost-frames", args.lost_frames),
        ("doubled-frames", args.doubled_frames),
        ("split-frames", args.split_frames),
    ] {
        ensure!((0.0..=0.5).contains(&share), "got --{name} {share}, expected a share from 0 to 0.5");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ran = runtime.block_on(serve(args));
    // Nobody waits for the thread that reads standard input.
    runtime.shutdown_background();
    ran
}

async fn serve(args: &CableArgs) -> Result<ExitCode> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let input_ends = end_of_input();
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            // Whoever started it may end it by closing its input.
            Ok(()) = input_ends => {}
        }
    };
    tokio::pin!(stop);
    let mut terminal = end(&args.terminal)?;
    let (mut to_box, mut to_terminal) = (Noise::new(args, !args.seed), Noise::new(args, args.seed));
    let (mut plugs, pause) = (0_u64, Duration::from_millis(args.split_ms));
    loop {
        let mut plugged = end(&args.r#box)?;
        if plugs == 0 {
            say!("ready {} {}", args.r#box.display(), args.terminal.display());
        }
        plugs += 1;
        let pulled = async {
            match args.unplug_every_ms {
                Some(ms) => sleep(Duration::from_millis(ms)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            broken = carry(&mut terminal.reader, &mut plugged.writer, &mut to_box, pause) => broken?,
            broken = carry(&mut plugged.reader, &mut terminal.writer, &mut to_terminal, pause) => broken?,
            () = pulled => {}
            () = &mut stop => break,
        }
        drop(plugged);
        tokio::select! {
            () = sleep(Duration::from_millis(args.unplug_for_ms)) => {}
            () = &mut stop => break,
        }
        to_box.unplugged(drain(&mut terminal.reader).await);
        to_terminal.unplugged(0);
    }
    let counts = serde_json::json!({
        "seed": args.seed, "plugged": plugs, "to_box": to_box.counts, "to_terminal": to_terminal.counts,
    });
    say!("{counts}");
    Ok(ExitCode::SUCCESS)
}

/// The end of a pipe, waited for on a thread. A terminal stops who reads it in the background, and a script's jobs have
/// no input at all: neither is looked at.
fn end_of_input() -> oneshot::Receiver<()> {
    let (tell, told) = oneshot::channel();
    let kind = fstat(io::stdin()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    if kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket()) {
        std::thread::spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            let _ = tell.send(());
        });
    }
    told
}
