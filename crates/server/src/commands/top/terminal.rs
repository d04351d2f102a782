//! The terminal: it becomes a screen, and is as it was before when the command ends.
//!
//! Invariant: whatever ends the command – a key, a signal, a failure or a panic – the terminal is restored.

use std::{
    cell::{Cell, RefCell},
    io::{self, IsTerminal},
    process::ExitCode,
    thread,
    time::Duration,
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, read},
};
use tokio::{
    sync::mpsc,
    time::{Instant, interval},
};

use super::{
    feed::{Update, follow},
    model::Model,
    screen::{View, draw},
};
use crate::{
    commands::{admin::Target, fail, signals::Signals},
    http_client::Client,
};

/// Between two looks at whether anything has changed.
const TICK: Duration = Duration::from_millis(100);
/// Lines that a key scrolls by.
const PAGE: u16 = 10;

/// Whether there is a terminal to show figures on and to read keys from.
pub(super) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// A terminal that is a screen. Its drop restores it.
struct Screen(DefaultTerminal);

impl Screen {
    /// Also restores the terminal before a panic is reported.
    fn open() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Quit,
    /// By this number of lines.
    Scroll(i32),
    /// The size has changed.
    Draw,
}

fn wish(event: &Event) -> Option<Wish> {
    let Event::Key(KeyEvent {
        code, modifiers, kind, ..
    }) = event
    else {
        return matches!(event, Event::Resize(..)).then_some(Wish::Draw);
    };
    if *kind == KeyEventKind::Release {
        return None;
    }
    Some(match code {
        KeyCode::Char('c' | 'd') if modifiers.contains(KeyModifiers::CONTROL) => Wish::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Wish::Quit,
        KeyCode::Up | KeyCode::Char('k') => Wish::Scroll(-1),
        KeyCode::Down | KeyCode::Char('j') => Wish::Scroll(1),
        KeyCode::PageUp => Wish::Scroll(-i32::from(PAGE)),
        KeyCode::PageDown => Wish::Scroll(PAGE.into()),
        KeyCode::Home => Wish::Scroll(i32::MIN),
        KeyCode::End => Wish::Scroll(i32::MAX),
        _ => return None,
    })
}

/// Reads keys on a thread of its own, because reading them blocks. The thread ends with the process.
fn wishes() -> io::Result<mpsc::Receiver<Wish>> {
    let (send, wishes) = mpsc::channel(16);
    let read_all = move || {
        while let Ok(event) = read() {
            if let Some(wish) = wish(&event)
                && send.blocking_send(wish).is_err()
            {
                return;
            }
        }
    };
    thread::Builder::new().name("keys".to_owned()).spawn(read_all)?;
    Ok(wishes)
}

/// Shows the figures until the user quits.
pub(super) async fn show(client: &Client, target: &Target) -> ExitCode {
    // Before the terminal changes: a service that cannot be watched at all is told as by every other command.
    let model = RefCell::new(Model::default());
    let lost: RefCell<Option<(Instant, String)>> = RefCell::new(None);
    let is_new = Cell::new(false);
    let mut following = std::pin::pin!(follow(client, target, |update| {
        match update {
            Update::Event(event) => {
                model.borrow_mut().apply(event);
                lost.take();
            }
            Update::Lost(why) => {
                let since = lost.borrow().as_ref().map_or_else(Instant::now, |(since, _)| *since);
                lost.replace(Some((since, why)));
            }
        }
        is_new.set(true);
    }));
    let first = async {
        let mut ticks = interval(TICK);
        while !is_new.get() {
            ticks.tick().await;
        }
    };
    tokio::select! {
        why = &mut following => return fail(&target.url.to_string(), &why),
        () = first => {}
    }
    let looking = look(&model, &lost, &is_new);
    let result = tokio::select! {
        result = looking => result,
        // Not after the first event.
        why = following => return fail(&target.url.to_string(), &why),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail("cannot use the terminal", &error),
    }
}

async fn look(
    model: &RefCell<Model>,
    lost: &RefCell<Option<(Instant, String)>>,
    is_new: &Cell<bool>,
) -> io::Result<()> {
    let mut signals = Signals::listen()?;
    let mut screen = Screen::open()?;
    let mut wishes = wishes()?;
    let mut ticks = interval(TICK);
    let mut view = View::default();
    let mut shown_lost = None;
    let mut most = 0;
    loop {
        let lost_for = lost.borrow().as_ref().map(|(since, _)| since.elapsed().as_secs());
        if is_new.take() || lost_for != shown_lost {
            shown_lost = lost_for;
            view.lost = lost
                .borrow()
                .as_ref()
                .map(|(since, why)| (since.elapsed(), why.clone()));
            screen.0.draw(|frame| most = draw(frame, &model.borrow(), &view))?;
        }
        tokio::select! {
            _ = ticks.tick() => {}
            wish = wishes.recv() => match wish {
                None | Some(Wish::Quit) => return Ok(()),
                Some(Wish::Draw) => is_new.set(true),
                Some(Wish::Scroll(by)) => {
                    let to = i32::from(view.scroll.min(most)).saturating_add(by).clamp(0, most.into());
                    view.scroll = u16::try_from(to).unwrap_or(0);
                    is_new.set(true);
                }
            },
            _ = signals.next() => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(code: KeyCode, modifiers: KeyModifiers) -> Option<Wish> {
        wish(&Event::Key(KeyEvent::new(code, modifiers)))
    }

    #[test]
    fn keys_quit_and_scroll() {
        assert_eq!(pressed(KeyCode::Char('q'), KeyModifiers::NONE), Some(Wish::Quit));
        assert_eq!(pressed(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::Quit));
        assert_eq!(pressed(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(pressed(KeyCode::Down, KeyModifiers::NONE), Some(Wish::Scroll(1)));
        assert_eq!(pressed(KeyCode::PageUp, KeyModifiers::NONE), Some(Wish::Scroll(-10)));
        assert_eq!(wish(&Event::Resize(80, 24)), Some(Wish::Draw));
    }
}
