//! What the screen shows, and what keys and answers do to it.

use std::collections::VecDeque;

use locus_firmware_config::message::{Answer, Fault, Outcome, Request};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::question::{self, Settings, Typed};

/// Questions that can be looked at again; they are gone with the screen.
const KEPT: usize = 50;
/// Most characters of a line: as much as a message takes.
const LONGEST: usize = 60_000;

/// What came of a question.
#[derive(Clone, Debug)]
pub(super) enum Came {
    /// Nothing yet.
    Waiting,
    Answer(Box<Answer>),
    Fault(Fault),
    /// No outcome at all.
    Nothing(String),
}

/// A question and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) line: String,
    pub(super) came: Came,
}

/// What has to be done after a key.
#[derive(Debug, PartialEq)]
pub(super) enum Todo {
    Nothing,
    Ask(Box<Request>),
    Quit,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) input: Vec<char>,
    /// Where the next character goes.
    pub(super) cursor: usize,
    pub(super) settings: Settings,
    /// What was asked, the latest last.
    pub(super) asked: VecDeque<Exchange>,
    /// Which of them is looked at.
    pub(super) shown: usize,
    /// Lines above the screen.
    pub(super) scroll: u16,
    /// Lines on it.
    pub(super) page: u16,
    pub(super) help: bool,
    /// What was wrong with the line, or which setting was changed.
    pub(super) notice: Option<String>,
}

impl State {
    pub(super) fn showing(&self) -> Option<&Exchange> {
        self.asked.get(self.shown)
    }

    pub(super) fn waits(&self) -> bool {
        self.asked.back().is_some_and(|one| matches!(one.came, Came::Waiting))
    }

    /// What a key does.
    pub(super) fn key(&mut self, key: KeyEvent) -> Todo {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c' | 'd' | 'q') => return Todo::Quit,
                KeyCode::Char('u') => self.clear(),
                _ => {}
            }
            return Todo::Nothing;
        }
        match key.code {
            KeyCode::Esc if self.help || self.notice.is_some() => (self.help, self.notice) = (false, None),
            KeyCode::Esc if self.input.is_empty() => return Todo::Quit,
            KeyCode::Esc => self.clear(),
            KeyCode::Enter => return self.enter(),
            KeyCode::F(1) => self.help = !self.help,
            KeyCode::F(2) => {
                self.settings.explain = !self.settings.explain;
                self.notice = Some(format!("explain {}", if self.settings.explain { "on" } else { "off" }));
            }
            KeyCode::Char(c) => self.insert(c),
            KeyCode::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.input.remove(self.cursor);
            }
            KeyCode::Delete if self.cursor < self.input.len() => drop(self.input.remove(self.cursor)),
            KeyCode::Left => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Right => self.cursor = (self.cursor + 1).min(self.input.len()),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.input.len(),
            KeyCode::Up => self.look(self.shown.saturating_sub(1)),
            KeyCode::Down => self.look(self.shown + 1),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(self.page),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_add(self.page),
            _ => {}
        }
        Todo::Nothing
    }

    /// What was pasted goes into the line; where it has several, the first that is not a heading.
    pub(super) fn paste(&mut self, text: &str) {
        let line = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#')).unwrap_or("");
        line.chars().for_each(|c| self.insert(c));
    }

    fn insert(&mut self, c: char) {
        let c = if c == '\t' { ' ' } else { c };
        if !c.is_control() && self.input.len() < LONGEST {
            self.input.insert(self.cursor, c);
            self.cursor += 1;
        }
    }

    fn clear(&mut self) {
        self.input.clear();
        self.cursor = 0;
    }

    /// Looks at an earlier question, and has it in the line to be asked again.
    fn look(&mut self, at: usize) {
        let Some(one) = self.asked.get(at) else { return };
        self.input = one.line.chars().collect();
        self.cursor = self.input.len();
        (self.shown, self.scroll, self.notice) = (at, 0, None);
    }

    fn enter(&mut self) -> Todo {
        let line: String = self.input.iter().collect();
        (self.help, self.notice) = (false, None);
        if line.trim().is_empty() {
            return Todo::Nothing;
        }
        match question::read(&line, &mut self.settings) {
            Ok(Typed::Ask(_)) if self.waits() => {
                self.notice =
                    Some("the question before is still being answered; press Enter again after it".into());
                return Todo::Nothing;
            }
            Ok(Typed::Ask(request)) => {
                if self.asked.len() == KEPT {
                    self.asked.pop_front();
                }
                self.asked.push_back(Exchange { line, came: Came::Waiting });
                (self.shown, self.scroll) = (self.asked.len() - 1, 0);
                self.clear();
                return Todo::Ask(request);
            }
            Ok(Typed::Set(now)) => self.notice = Some(now),
            Ok(Typed::Help) => self.help = true,
            Ok(Typed::Quit) => return Todo::Quit,
            Err(wrong) => {
                self.notice = Some(wrong);
                return Todo::Nothing;
            }
        }
        self.clear();
        Todo::Nothing
    }

    /// What came of the question that was asked last.
    pub(super) fn told(&mut self, outcome: Result<Outcome, String>) {
        if let Some(last) = self.asked.back_mut() {
            last.came = match outcome {
                Ok(Outcome::Answer(answer)) => Came::Answer(answer),
                Ok(Outcome::Fault(fault)) => Came::Fault(fault),
                Err(why) => Came::Nothing(why),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(state: &mut State, text: &str) -> Todo {
        for c in text.chars() {
            assert_eq!(state.key(KeyEvent::from(KeyCode::Char(c))), Todo::Nothing);
        }
        state.key(KeyEvent::from(KeyCode::Enter))
    }

    fn press(state: &mut State, code: KeyCode) -> Todo {
        state.key(KeyEvent::from(code))
    }

    #[test]
    fn one_question_is_asked_at_a_time_and_an_earlier_one_can_be_looked_at_and_asked_again() {
        let mut state = State::default();
        let Todo::Ask(first) = typed(&mut state, "chr1-5-A-C") else { panic!("not asked") };
        assert_eq!(first.variant.as_deref(), Some("chr1-5-A-C"));
        assert!(state.waits() && state.input.is_empty());
        assert_eq!(typed(&mut state, "chr1-6-A-C"), Todo::Nothing);
        assert!(state.notice.as_deref().unwrap().contains("still being answered"));
        state.told(Err("nobody there".into()));
        assert!(matches!(press(&mut state, KeyCode::Enter), Todo::Ask(_)));
        state.told(Err("nobody there".into()));
        press(&mut state, KeyCode::Up);
        assert_eq!((state.shown, state.input.iter().collect::<String>().as_str()), (0, "chr1-5-A-C"));
        press(&mut state, KeyCode::Down);
        press(&mut state, KeyCode::Down);
        assert_eq!(state.shown, 1);
    }

    #[test]
    fn a_line_is_edited_where_the_cursor_is_and_what_is_pasted_is_one_line() {
        let mut state = State::default();
        typed(&mut state, "");
        for c in "chr1-5-A".chars() {
            press(&mut state, KeyCode::Char(c));
        }
        press(&mut state, KeyCode::Home);
        press(&mut state, KeyCode::Delete);
        press(&mut state, KeyCode::Char('C'));
        press(&mut state, KeyCode::End);
        press(&mut state, KeyCode::Left);
        press(&mut state, KeyCode::Backspace);
        assert_eq!(state.input.iter().collect::<String>(), "Chr1-5A");
        press(&mut state, KeyCode::Esc);
        state.paste("##fileformat=VCFv4.3\nchr1\t5\t.\tA\tC\u{1b}\nchr1\t6\t.\tA\tC\n");
        assert_eq!(state.input.iter().collect::<String>(), "chr1 5 . A C");
        state.paste(&"A".repeat(LONGEST * 2));
        assert_eq!(state.input.len(), LONGEST);
    }

    #[test]
    fn what_is_wrong_stays_in_the_line_and_nothing_is_kept_without_bound() {
        let mut state = State::default();
        assert_eq!(typed(&mut state, "nonsense"), Todo::Nothing);
        assert!(state.notice.is_some() && !state.input.is_empty() && state.asked.is_empty());
        press(&mut state, KeyCode::Esc);
        assert_eq!(press(&mut state, KeyCode::Esc), Todo::Nothing);
        for n in 0..KEPT + 5 {
            assert!(matches!(typed(&mut state, &format!("chr1-{n}-A-C")), Todo::Ask(_)));
            state.told(Err(String::new()));
        }
        assert_eq!((state.asked.len(), state.asked[0].line.as_str()), (KEPT, "chr1-5-A-C"));
        assert_eq!(press(&mut state, KeyCode::F(2)), Todo::Nothing);
        assert!(state.settings.explain);
        assert_eq!(typed(&mut state, ":quit"), Todo::Quit);
        press(&mut state, KeyCode::Esc);
        press(&mut state, KeyCode::Esc);
        assert_eq!(press(&mut state, KeyCode::Esc), Todo::Quit);
    }
}
