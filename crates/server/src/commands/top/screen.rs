//! The screen: the lines of `text` with colours, and how the load went. Invariant: drawing changes nothing, and every
//! level is also a word.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line as Styled, Span},
    widgets::{Paragraph, Sparkline},
};

use super::{
    model::{Level, Model},
    text::{self, Line},
};

/// Rows of the sparklines.
const CURVES: u16 = 3;
/// Most records below the figures; the arrows lead to those that have no room.
const MOST_RECORDS: usize = 50;

/// What the screen shows beside the model.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// The first line that is shown below the title.
    pub(super) scroll: u16,
    /// Since when, and why, there is no connection.
    pub(super) lost: Option<(Duration, String)>,
}

/// Draws everything. Returns how far the lines can be scrolled.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, view: &View) -> u16 {
    let area = frame.area();
    let [title, curves, body, help] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(CURVES),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_title(frame, model, view, title);
    draw_curves(frame, model, curves);
    let lines = lines(model, area.width.into());
    let most = u16::try_from(lines.len())
        .unwrap_or(u16::MAX)
        .saturating_sub(body.height);
    let scroll = view.scroll.min(most);
    let is_old = view.lost.is_some();
    let styled: Vec<Styled<'_>> = lines.iter().map(|line| style(line, is_old)).collect();
    frame.render_widget(Paragraph::new(styled).scroll((scroll, 0)), body);
    let keys = match most {
        0 => "q quit".to_owned(),
        most => format!("q quit   \u{2191}\u{2193} PgUp PgDn scroll ({scroll}/{most})"),
    };
    frame.render_widget(
        Paragraph::new(keys).style(Style::new().add_modifier(Modifier::DIM)),
        help,
    );
    most
}

fn draw_title(frame: &mut Frame<'_>, model: &Model, view: &View, area: Rect) {
    let mut spans = vec![Span::styled(text::title(model), Modifier::BOLD)];
    if let Some((since, why)) = &view.lost {
        let lost = format!("  disconnected for {}: {why}", text::seconds(since.as_secs()));
        spans.push(Span::styled(lost, Style::new().fg(Color::Red)));
    }
    frame.render_widget(Paragraph::new(Styled::from(spans)), area);
}

/// The rate and the 99th percentile of the rows that fit.
fn draw_curves(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let halves: [Rect; 2] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)])
        .spacing(2)
        .areas(area);
    for (area, name, column) in [(halves[0], "requests/s", "requests"), (halves[1], "p99", "p99")] {
        let [label, curve] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
        let series = model.series(column);
        let shown = &series[series.len().saturating_sub(curve.width.into())..];
        let most = shown.iter().copied().max().unwrap_or(0);
        let most = match column {
            "p99" => text::micros(most),
            _ => most.to_string(),
        };
        frame.render_widget(Paragraph::new(format!("{name}, at most {most}")), label);
        frame.render_widget(Sparkline::default().data(shown), curve);
    }
}

fn lines(model: &Model, width: usize) -> Vec<Line> {
    let mut lines = text::verdicts(model, width);
    lines.extend(text::figures(model));
    lines.extend(text::slots(model, width));
    lines.extend(text::records(model, MOST_RECORDS));
    lines
}

fn style(line: &Line, is_old: bool) -> Styled<'_> {
    let style = match line.level {
        _ if is_old => Style::new().add_modifier(Modifier::DIM),
        Some(Level::Critical) => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Some(Level::Warning) => Style::new().fg(Color::Yellow),
        Some(Level::Ok) => Style::new().fg(Color::Green),
        Some(Level::Info) | None => Style::new(),
    };
    Styled::styled(&line.text, style)
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::{super::model::tests::model, *};

    /// The screen as lines, and how far it can be scrolled.
    fn drawn(width: u16, height: u16, view: &View) -> (Vec<String>, u16) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let mut most = 0;
        terminal.draw(|frame| most = draw(frame, &model(), view)).unwrap();
        let buffer = terminal.backend().buffer();
        let rows = buffer.content().chunks(width.into());
        let rows = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
        (rows.map(|row| row.trim_end().to_owned()).collect(), most)
    }

    #[test]
    fn a_small_terminal_shows_the_verdict_and_the_figures_and_scrolls_to_the_rest() {
        let (screen, most) = drawn(80, 24, &View::default());
        assert_eq!(screen[0], "cenote 0.1.0 at 127.0.0.1:8000, up 60 min");
        assert!(screen[1].starts_with("requests/s, at most 1240"), "{screen:#?}");
        assert!(screen[4].starts_with("WARNING   All 10 connections"), "{screen:#?}");
        assert!(
            screen.iter().any(|line| line.starts_with("slots     UIc")),
            "{screen:#?}"
        );
        assert_eq!(most, 0, "everything has room");
        let (screen, most) = drawn(
            80,
            14,
            &View {
                scroll: u16::MAX,
                lost: None,
            },
        );
        assert!(most > 0);
        assert!(screen[12].starts_with("slow "), "{screen:#?}");
        assert!(screen[13].contains(&format!("({most}/{most})")), "{screen:#?}");
    }

    #[test]
    fn a_lost_connection_is_told_with_its_time_and_reason() {
        let lost = Some((Duration::from_secs(12), "connection refused".to_owned()));
        let (screen, _) = drawn(100, 24, &View { scroll: 0, lost });
        assert!(
            screen[0].ends_with("disconnected for 12 s: connection refused"),
            "{screen:#?}"
        );
    }

    #[test]
    fn no_size_of_a_terminal_is_a_panic() {
        for (width, height) in [(1, 1), (5, 2), (20, 5), (300, 100)] {
            drawn(
                width,
                height,
                &View {
                    scroll: 9,
                    lost: Some((Duration::MAX, "x".repeat(500))),
                },
            );
        }
    }
}
