//! What the commands write: nobody who stops reading ends a command in the middle.
//!
//! `println!` panics where the reader is gone (`locusctl slots | head -1`), and so does `eprintln!`
//! (`locus run 2>&1 | head`). Here the rest is left unsaid, and the command
//! goes on to its own end and exit code. Any other failure to write is told at the end by [`finish`].

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

static CLOSED: AtomicBool = AtomicBool::new(false);
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Standard output as far as somebody reads it.
#[derive(Debug, Default)]
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if closed() { Ok(()) } else { unless_closed(io::stdout().write_all(bytes), &CLOSED) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if closed() { Ok(()) } else { unless_closed(io::stdout().flush(), &CLOSED) }
    }
}

fn unless_closed(result: io::Result<()>, closed: &AtomicBool) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            closed.store(true, Ordering::Release);
            Ok(())
        }
        other => other,
    }
}

/// Whether nobody reads any more.
pub fn closed() -> bool {
    CLOSED.load(Ordering::Acquire)
}

/// Writes to standard output.
pub fn write(text: fmt::Arguments<'_>) {
    if let Err(error) = Stdout.write_fmt(text) {
        let _ = FAILED.set(error);
    }
}

/// Writes to standard error; where that fails there is nobody left to tell.
pub fn write_error(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_fmt(text);
}

/// Writes what is still in memory.
///
/// # Errors
/// Something could not be written, though somebody reads: the disk behind it may be full.
pub fn finish() -> io::Result<()> {
    Stdout.flush()?;
    match FAILED.get() {
        Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
        None => Ok(()),
    }
}

/// An error with its causes, each said once: many say theirs themselves.
pub fn whole(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for said in error.chain().map(ToString::to_string) {
        if !text.contains(&said) {
            text = if text.is_empty() { said } else { format!("{text}: {said}") };
        }
    }
    text
}

/// A line on standard output.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::write(format_args!("{}\n", format_args!($($text)*))) };
}

/// A line on standard error.
#[macro_export]
macro_rules! complain {
    ($($text:tt)*) => { $crate::write_error(format_args!("{}\n", format_args!($($text)*))) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once_whether_the_error_says_it_itself_or_not() {
        let cause = || io::Error::other("the disk is full");
        let named = anyhow::Error::from(cause()).context("a.txt").context("saving");
        assert_eq!(whole(&named), "saving: a.txt: the disk is full");
        let twice = anyhow::Error::from(cause()).context("a.txt: the disk is full; make room");
        assert_eq!(whole(&twice), "a.txt: the disk is full; make room");
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error_and_a_full_disk_is() {
        let closed = AtomicBool::new(false);
        assert!(unless_closed(Err(ErrorKind::StorageFull.into()), &closed).is_err());
        assert!(!closed.load(Ordering::Acquire));
        assert!(unless_closed(Err(ErrorKind::BrokenPipe.into()), &closed).is_ok());
        assert!(closed.load(Ordering::Acquire));
    }
}
