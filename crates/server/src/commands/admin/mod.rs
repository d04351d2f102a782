//! `cenote admin`: administers a running service through its routes `/admin/…`.
//!
//! Invariant: the answer is on standard output, everything else on standard error; the exit code is 0 only if the service
//! did what it was asked.

mod arguments;
mod exchange;
mod report;
mod target;

use std::process::ExitCode;

use clap::ArgMatches;

use self::{
    arguments::Action,
    exchange::ask,
    target::{NoTarget, credentials, named_url, url_of, variable},
};
pub(super) use self::{
    arguments::{Options, command, of_service, switch, url},
    exchange::{Failure, judge, unanswered},
    target::Target,
};
use super::{block_on, fail, fail_with, load, warn};
use crate::{
    http_client::{Client, TlsFiles},
    output::{self, Output},
};

pub(super) fn run(action: &str, arguments: &ArgMatches) -> ExitCode {
    let (action, options) = (Action::of(action, arguments), Options::of(arguments));
    let target = match find_target(&options, arguments) {
        Ok(target) => target,
        Err(code) => return code,
    };
    block_on(perform(&action, &options, &target))
}

/// Returns the service that is meant, with a warning if its key could be read on its way. The settings are read only if nothing else names it, so that the command works on other
/// machines too.
pub(super) fn find_target(options: &Options, arguments: &ArgMatches) -> Result<Target, ExitCode> {
    let wrong = |unknown: NoTarget| {
        output::complain(format_args!("cenote: {unknown}"));
        ExitCode::from(2)
    };
    let url = match named_url(options, &variable).map_err(wrong)? {
        Some(url) => url,
        None => {
            let (loaded, _) = load(arguments)?;
            warn(&loaded.warnings);
            url_of(&loaded.settings).map_err(wrong)?
        }
    };
    let credentials = credentials(options, &variable).map_err(wrong)?;
    let target = Target { url, credentials };
    if target.shows_its_key() {
        let url = &target.url;
        output::complain(format_args!("warning: the key goes to {url} without encryption"));
    }
    Ok(target)
}

/// Returns a client that trusts, and shows, what the command line says.
pub(super) fn client(options: &Options) -> Result<Client, ExitCode> {
    let client = Client::with_tls(&TlsFiles {
        authorities: options.ca.clone(),
        certificate: options.certificate.clone(),
    });
    client.map_err(|error| fail_with(&error))
}

async fn perform(action: &Action, options: &Options, target: &Target) -> ExitCode {
    let client = match client(options) {
        Ok(client) => client,
        Err(code) => return code,
    };
    let answer = match ask(&client, target, action, options.timeout).await {
        Ok(answer) => answer,
        Err(failure) => return fail(&target.url.to_string(), &failure),
    };
    let mut output = Output::default();
    if options.json {
        output.line(String::from_utf8_lossy(&answer));
    } else if let Err(error) = report::show(action, &answer, &mut output) {
        let url = &target.url;
        return fail_with(&format_args!(
            "the answer of {url} is not understood: {error}; --json shows it"
        ));
    }
    output.finish(ExitCode::SUCCESS)
}
