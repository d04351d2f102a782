//! `cenote top`: the dashboard in a terminal, for any running service.
//!
//! Invariant: figures are on standard output, everything else on standard error. The exit code of `--once` is 0 if nothing
//! is critical, 3 if something is, and 1 if the figures could not be read.
//!
//! | To find | Look in |
//! |---|---|
//! | the stream, and what happens when it ends | `feed`, `events` |
//! | what is known of the service | `model` |
//! | the figures in lines | `text` |
//! | the screen, its keys, and the terminal | `screen`, `terminal` |

mod events;
mod feed;
mod model;
#[cfg(feature = "top")]
mod screen;
#[cfg(feature = "top")]
mod terminal;
mod text;

use std::{cell::RefCell, process::ExitCode};

use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use tokio::time::timeout;

use self::{
    feed::{Update, follow},
    model::Model,
};
use super::{
    admin::{Options, Target, client, find_target, of_service, switch, url},
    block_on, fail,
};
use crate::{http_client::Client, output::Output, settings};

/// The exit code of `--once` if a verdict is critical.
const CRITICAL: u8 = 3;
/// The width of lines for `--once`.
const WIDTH: usize = 100;

/// The command line of `cenote top`.
pub(super) fn command() -> Command {
    let once = "Show the figures once. The exit code is 3 if something is critical, and 1 if they cannot be read";
    Command::new("top")
        .about("Watch a running service in the terminal: what is wrong, rates, connections, cache")
        .arg(url())
        .arg(switch("once", once))
        .args(of_service())
        .args(settings::args())
}

/// How the figures are shown.
#[derive(Clone, Copy)]
enum Form {
    /// On the whole terminal.
    #[cfg(feature = "top")]
    Screen,
    /// A line for each row.
    Lines,
    /// An object for each event.
    Json,
}

pub(super) fn run(arguments: &ArgMatches) -> ExitCode {
    let options = Options::of(arguments);
    let connected = find_target(&options, arguments).and_then(|target| Ok((client(&options)?, target)));
    let (client, target) = match connected {
        Ok(connected) => connected,
        Err(code) => return code,
    };
    if arguments.get_flag("once") {
        return block_on(once(&client, &target, &options));
    }
    match form(&options) {
        #[cfg(feature = "top")]
        Form::Screen => block_on(terminal::show(&client, &target)),
        Form::Lines => block_on(stream(&client, &target, false)),
        Form::Json => block_on(stream(&client, &target, true)),
    }
}

fn form(options: &Options) -> Form {
    if options.json {
        return Form::Json;
    }
    #[cfg(feature = "top")]
    if terminal::is_there() {
        return Form::Screen;
    }
    Form::Lines
}

/// Shows the figures once.
async fn once(client: &Client, target: &Target, options: &Options) -> ExitCode {
    let model = RefCell::new(Model::default());
    let (live, became_live) = tokio::sync::oneshot::channel();
    let live = RefCell::new(Some(live));
    let following = follow(client, target, |update| {
        if let Update::Event(event) = update {
            model.borrow_mut().apply(event);
        }
        if model.borrow().is_live {
            // Only once, and not after the end of this command.
            let _sent = live.take().map(|live| live.send(()));
        }
    });
    let read = async {
        tokio::select! {
            why = following => Some(why),
            _ = became_live => None,
        }
    };
    let url = target.url.to_string();
    match timeout(options.timeout, read).await {
        Ok(None) => {}
        Ok(Some(why)) => return fail(&url, &why),
        Err(_) => {
            let seconds = options.timeout.as_secs();
            return fail(&url, &format_args!("no figures within {seconds} s"));
        }
    }
    let model = model.into_inner();
    let mut output = Output::default();
    match options.json {
        true => output.line(json!({
            "version": model.about.version,
            "instance": model.about.instance,
            "row": model.row(),
            "state": model.state(),
        })),
        false => {
            for line in text::whole(&model, WIDTH) {
                output.line(line.text.trim_end());
            }
        }
    }
    output.finish(match model.is_critical() {
        true => ExitCode::from(CRITICAL),
        false => ExitCode::SUCCESS,
    })
}

/// Writes what arrives, until the reader of standard output has gone.
async fn stream(client: &Client, target: &Target, as_json: bool) -> ExitCode {
    let output = RefCell::new(Output::default());
    let mut model = Model::default();
    let following = follow(client, target, |update| {
        let line = match update {
            Update::Lost(why) if as_json => json!({ "disconnected": why }).to_string(),
            Update::Lost(why) => format!("disconnected: {why}"),
            Update::Event(event) => {
                let name = event.name.clone();
                let data = event.data.clone();
                model.apply(event);
                match (&*name, as_json) {
                    ("row", true) => json!({ "row": model.row() }).to_string(),
                    (_, true) => Value::from_iter([(name, data)]).to_string(),
                    ("row", false) => text::row(&model),
                    (_, false) => return,
                }
            }
        };
        output.borrow_mut().line(line);
    });
    let closed = async {
        while output.borrow().is_taken() {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        why = following => fail(&target.url.to_string(), &why),
        () = closed => output.take().finish(ExitCode::SUCCESS),
    }
}
