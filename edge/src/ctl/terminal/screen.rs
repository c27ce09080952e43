//! How the screen is drawn. What an answer is, is said in words; colour only repeats them.

use locus_firmware_config::message::{Answer, Band};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Position, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Paragraph, Wrap},
};

use super::{
    question::HELP,
    state::{Came, State},
};
use crate::ctl::answer;

/// Characters of the scale.
const SCALE: usize = 40;
const KEYS: &str =
    "Enter ask   Up/Down earlier questions   PgUp/PgDn scroll   F2 explain   F1 help   Esc clear, leave";

/// Draws all of it; `title` says which box answers, over what, to whom.
pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State, title: &str) {
    let parts = [
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Length(1),
    ];
    let [head, body, notice, input, keys] = Layout::vertical(parts).areas(frame.area());
    let bar = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Paragraph::new(format!(" {title}")).style(bar), head);
    let lines = if state.help { HELP.iter().map(|line| Line::from(*line)).collect() } else { said(state) };
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    let most = u16::try_from(text.line_count(body.width)).unwrap_or(u16::MAX).saturating_sub(body.height);
    (state.scroll, state.page) = (state.scroll.min(most), body.height.max(1));
    frame.render_widget(text.scroll((state.scroll, 0)), body);
    let wrong = state.notice.as_deref().unwrap_or_default();
    frame.render_widget(Paragraph::new(wrong).style(Style::new().add_modifier(Modifier::BOLD)), notice);
    line(frame, state, input);
    frame.render_widget(Paragraph::new(KEYS).style(Style::new().add_modifier(Modifier::DIM)), keys);
}

/// The line that is typed, its end or the cursor in sight.
fn line(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let explain = if state.settings.explain { ", explained" } else { "" };
    let title = format!(" variant, HGVS name, gene and c., VCF line, or bases and change{explain} ");
    let block = Block::bordered().title(title);
    let inner = block.inner(area);
    let width = usize::from(inner.width).saturating_sub(1);
    let from = state.cursor.saturating_sub(width);
    let text: String = state.input.iter().skip(from).take(width + 1).collect();
    frame.render_widget(Paragraph::new(text).block(block), area);
    let column = u16::try_from(state.cursor - from).unwrap_or(0);
    frame.set_cursor_position(Position::new(inner.x + column, inner.y));
}

fn strong(text: String, colour: Color) -> Line<'static> {
    let style = Style::new().fg(colour).add_modifier(Modifier::BOLD | Modifier::REVERSED);
    Line::from(Span::styled(format!(" {text} "), style))
}

fn said(state: &State) -> Vec<Line<'static>> {
    let Some(one) = state.showing() else {
        return vec![
            Line::from(""),
            Line::from("Type what to ask and press Enter. F1 shows in which forms."),
            Line::from(
                "What is asked and answered here is on this screen until it closes, and in the box's journal.",
            ),
        ];
    };
    let mut lines = vec![Line::from(format!("> {}", one.line)), Line::from("")];
    match &one.came {
        Came::Waiting => lines.push(Line::from("asking …")),
        Came::Nothing(why) => {
            lines.push(strong("NO ANSWER".into(), Color::Red));
            lines.push(Line::from(why.clone()));
            lines.push(Line::from(
                "Nothing is known of the change. Ask again: the same question is answered once.",
            ));
        }
        Came::Fault(fault) => {
            lines.push(strong(format!("NO ANSWER: {}", fault.code.as_str()), Color::Red));
            lines.push(Line::from(fault.message.clone()));
        }
        Came::Answer(answer) => {
            let (words, colour) = verdict(answer);
            lines.push(strong(words.into(), colour));
            lines.extend(scale(answer).map(Line::from));
            lines.extend(answer::lines(answer).into_iter().map(Line::from));
        }
    }
    lines
}

/// What an answer is, at a glance; never a class alone.
fn verdict(answer: &Answer) -> (&'static str, Color) {
    if answer.prediction.is_some() {
        return ("COMPUTATIONAL PREDICTION OF A SEQUENCE", Color::Cyan);
    }
    match answer.band {
        _ if answer.abstained => ("THE BOX ABSTAINS: nothing is said of this change", Color::Magenta),
        Band::Benign => ("COMPUTATIONAL PREDICTION, TOWARDS BENIGN", Color::Blue),
        Band::Pathogenic => ("COMPUTATIONAL PREDICTION, TOWARDS PATHOGENIC", Color::Yellow),
        _ => ("UNCERTAIN: the prediction speaks for neither side", Color::Cyan),
    }
}

/// Where the probability lies between benign and pathogenic.
fn scale(answer: &Answer) -> Option<String> {
    let p = answer.pathogenic_probability.filter(|p| !answer.abstained && (0.0..=1.0).contains(p))?;
    let at = (p * (SCALE - 1) as f64).round() as usize;
    let marks: String = (0..SCALE).map(|n| if n == at { '*' } else { '-' }).collect();
    Some(format!("  benign |{marks}| pathogenic   band: {}", answer.band.as_str()))
}

#[cfg(test)]
mod tests {
    use locus_firmware_config::message::{Fault, FaultCode, Outcome};
    use ratatui::{
        Terminal,
        backend::TestBackend,
        crossterm::event::{KeyCode, KeyEvent},
    };

    use super::*;

    fn shown(state: &mut State, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, "site s, box b, https")).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let rows = buffer.content().chunks(usize::from(width));
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
    }

    fn asked(outcome: Result<Outcome, String>) -> State {
        let mut state = State::default();
        state.paste("chr1-5-A-C");
        state.key(KeyEvent::from(KeyCode::Enter));
        state.told(outcome);
        state
    }

    fn answer(change: impl Fn(&mut Answer)) -> State {
        let Outcome::Answer(mut answer) = crate::pipeline::tests::an_answer() else { panic!("no answer") };
        change(&mut answer);
        asked(Ok(Outcome::Answer(answer)))
    }

    #[test]
    fn an_answer_an_uncertain_one_an_abstention_and_a_fault_read_differently() {
        let of = |band, p, abstained| {
            let mut state = answer(|answer| {
                (answer.band, answer.pathogenic_probability, answer.abstained) = (band, p, abstained);
            });
            shown(&mut state, (100, 30))
        };
        let pathogenic = of(Band::Pathogenic, Some(0.95), false);
        assert!(pathogenic.contains("COMPUTATIONAL PREDICTION, TOWARDS PATHOGENIC"), "{pathogenic}");
        assert!(pathogenic.contains("band: pathogenic") && pathogenic.contains("site s, box b, https"));
        assert!(of(Band::Benign, Some(0.01), false).contains("TOWARDS BENIGN"));
        let uncertain = of(Band::Uncertain, Some(0.5), false);
        assert!(uncertain.contains("UNCERTAIN") && !uncertain.contains("TOWARDS"), "{uncertain}");
        let abstained = of(Band::None, None, true);
        assert!(abstained.contains("THE BOX ABSTAINS") && !abstained.contains("benign |"), "{abstained}");
        let mut fault = asked(Ok(Outcome::Fault(Fault::new(FaultCode::RefMismatch, "got A, expected C"))));
        let fault = shown(&mut fault, (100, 30));
        assert!(fault.contains("NO ANSWER: ref_mismatch") && fault.contains("got A, expected C"), "{fault}");
        assert!(shown(&mut asked(Err("no connection".into())), (100, 30)).contains("NO ANSWER"));
    }

    #[test]
    fn all_of_a_long_answer_can_be_scrolled_to_on_a_small_screen() {
        let mut state = answer(|answer| answer.warnings = (0..40).map(|n| format!("warning-{n}.")).collect());
        let mut seen = String::new();
        for _ in 0..60 {
            seen += &shown(&mut state, (30, 12));
            state.key(KeyEvent::from(KeyCode::PageDown));
        }
        assert!((0..40).all(|n| seen.contains(&format!("warning-{n}."))), "{seen}");
        let end = shown(&mut state, (30, 12));
        state.key(KeyEvent::from(KeyCode::PageUp));
        assert_ne!(shown(&mut state, (30, 12)), end, "the end is not scrolled past");
    }

    #[test]
    fn the_end_of_a_long_line_is_in_sight_and_no_size_is_too_small() {
        let mut state = State::default();
        state.paste(&format!("{}TTTT", "ACGT".repeat(100)));
        assert!(shown(&mut state, (30, 12)).contains("ACGTTTTT"));
        for size in [(1, 1), (2, 40), (300, 2)] {
            shown(&mut state, size);
        }
    }
}
