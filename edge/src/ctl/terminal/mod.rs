//! `locusctl terminal`: somebody asks, one question after the other, over any transport.
//!
//! On a screen, or line by line where there is none (`--lines`, a pipe, a screen reader).

mod question;
mod screen;
mod state;

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use crossbeam_channel::{Receiver, Sender, unbounded};
use locus_firmware_config::message::{Outcome, Request};
use ratatui::{
    DefaultTerminal,
    crossterm::{
        event::{self, DisableBracketedPaste, EnableBracketedPaste, KeyEventKind},
        execute,
    },
};
use tokio::time::Instant;

use self::{
    question::{HELP, Settings, Typed},
    state::{State, Todo},
};
use super::{
    ask::Format,
    place::{AwayArgs, Place},
    reach::{Asker, WayArgs},
};
use crate::keys::random;

/// Longest line that is read, in bytes.
const LONGEST: u64 = 64 << 10;

/// How to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct TerminalArgs {
    /// Over what
    #[command(flatten)]
    pub way: WayArgs,
    /// Where
    #[command(flatten)]
    pub away: AwayArgs,
    /// How long a question is asked again until there is an outcome
    #[arg(long, default_value_t = 20_000)]
    pub timeout_ms: u64,
    /// Without a screen: reads questions line by line and prints what comes of each
    #[arg(long)]
    pub lines: bool,
    /// In which form answers are printed without a screen
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// What the screen waits for.
enum Happened {
    Typed(event::Event),
    Told(Result<Outcome, String>),
    /// There is nobody at the keys any more.
    Gone(io::Error),
}

/// Asks until whoever asks leaves; exit code 1 where a question of a pipe was not answered.
///
/// # Errors
/// The transport is off, or the screen cannot be drawn.
pub fn run(place: &Place, args: &TerminalArgs) -> Result<ExitCode> {
    Asker::of(place, &args.way)?;
    if args.lines || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return by_lines(place, args);
    }
    let (asked, questions) = unbounded();
    let (happened, happenings) = unbounded();
    let (place_, args_, told) = (place.clone(), args.clone(), happened.clone());
    thread::Builder::new()
        .name("asker".into())
        .spawn(move || answer_all(&place_, &args_, &questions, &told))?;
    // It ends with the process: a read of the keys cannot be called off.
    thread::Builder::new().name("keys".into()).spawn(move || {
        loop {
            let one = match event::read() {
                Ok(event) => happened.send(Happened::Typed(event)),
                Err(error) => {
                    let _ = happened.send(Happened::Gone(error));
                    return;
                }
            };
            if one.is_err() {
                return;
            }
        }
    })?;
    let title = format!(
        "Locus: {}, over {} as {}",
        place.title(),
        args.way.transport.as_str(),
        args.way.reach.terminal
    );
    let mut terminal = ratatui::try_init().context("the screen cannot be drawn; --lines asks without one")?;
    let _ = execute!(io::stdout(), EnableBracketedPaste);
    let left = at_screen(&mut terminal, &title, &asked, &happenings);
    let _ = execute!(io::stdout(), DisableBracketedPaste);
    ratatui::try_restore().context("the screen cannot be given back")?;
    left.map(|()| ExitCode::SUCCESS)
}

fn at_screen(
    terminal: &mut DefaultTerminal,
    title: &str,
    asked: &Sender<Box<Request>>,
    happenings: &Receiver<Happened>,
) -> Result<()> {
    let mut state = State::default();
    loop {
        terminal.draw(|frame| screen::draw(frame, &mut state, title))?;
        match happenings.recv()? {
            Happened::Typed(event::Event::Key(key)) if key.kind != KeyEventKind::Release => {
                match state.key(key) {
                    Todo::Quit => return Ok(()),
                    Todo::Ask(request) => asked.send(request)?,
                    Todo::Nothing => {}
                }
            }
            Happened::Typed(event::Event::Paste(text)) => state.paste(&text),
            // A new size, a focus: drawn again.
            Happened::Typed(_) => {}
            Happened::Told(outcome) => state.told(outcome),
            Happened::Gone(error) => return Err(error).context("reading the keys"),
        }
    }
}

fn answer_all(
    place: &Place,
    args: &TerminalArgs,
    questions: &Receiver<Box<Request>>,
    told: &Sender<Happened>,
) {
    let mut asker = By::new(place, args);
    for request in questions {
        let outcome = match &mut asker {
            Ok(asker) => asker.ask(&request).map_err(|error| locus_console::whole(&error)),
            Err(error) => Err(locus_console::whole(error)),
        };
        if told.send(Happened::Told(outcome)).is_err() {
            return;
        }
    }
}

/// Who asks, on a runtime of its own.
struct By<'a> {
    runtime: tokio::runtime::Runtime,
    asker: Asker<'a>,
    patience: Duration,
}

impl<'a> By<'a> {
    fn new(place: &'a Place, args: &'a TerminalArgs) -> Result<Self> {
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            asker: Asker::of(place, &args.way)?,
            patience: Duration::from_millis(args.timeout_ms),
        })
    }

    fn ask(&mut self, request: &Request) -> Result<Outcome> {
        let request = Request { id: Some(hex::encode(*random::<8>()?)), ..request.clone() };
        let ends = Instant::now() + self.patience;
        self.runtime.block_on(self.asker.ask(&request, ends)).outcome
    }
}

fn by_lines(place: &Place, args: &TerminalArgs) -> Result<ExitCode> {
    let (mut by, mut settings, mut all) = (By::new(place, args)?, Settings::default(), true);
    let mut input = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        if io::Read::take(&mut input, LONGEST).read_until(b'\n', &mut line)? == 0 || locus_console::closed() {
            break;
        }
        if line.len() as u64 == LONGEST && !line.ends_with(b"\n") {
            // The rest of it must not be taken for a question of its own.
            input.skip_until(b'\n')?;
            all = false;
            complain!("locusctl: got a line of over {LONGEST} bytes, expected a shorter one");
            continue;
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        // Headings of a VCF file, too.
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match question::read(&line, &mut settings) {
            Ok(Typed::Ask(request)) => match by.ask(&request) {
                Ok(Outcome::Answer(answer)) => say!("{}", args.format.of(&request, &answer)?),
                Ok(outcome @ Outcome::Fault(_)) if args.format == Format::Json => {
                    all = false;
                    say!("{}", String::from_utf8_lossy(&outcome.to_json()));
                }
                Ok(Outcome::Fault(fault)) => {
                    all = false;
                    complain!("locusctl: {}: {}", fault.code.as_str(), fault.message);
                }
                Err(error) => {
                    all = false;
                    complain!("locusctl: {}", locus_console::whole(&error));
                }
            },
            Ok(Typed::Set(now)) => complain!("{now}"),
            Ok(Typed::Help) => HELP.iter().for_each(|line| complain!("{line}")),
            Ok(Typed::Quit) => break,
            Err(wrong) => {
                all = false;
                complain!("locusctl: {wrong}");
            }
        }
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
