//! The audit log: one line for each administrative call, and for each command that changes API keys.
//!
//! Invariant: the line is written before the call is answered, as one write at the end of the file, so that lines of
//! several calls never mix. A line that the file does not take goes to the log. No line holds a secret: callers are named
//! by the number of their key. Callers that are not known get a bounded number of lines a second, so that strangers cannot
//! fill the disk.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;
use tokio::runtime::Handle;
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime, SystemTime},
};

use crate::line_budget::LineBudget;

/// Most lines a second for callers that are not known.
const STRANGERS_LINES: u32 = 10;

/// An administrative call, and what became of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AuditedCall {
    /// Who called: see [`Identity::name`](crate::auth::Identity); `local` without authentication. `None`: it is not known,
    /// and the call was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) who: Option<String>,
    /// What was called: the method and the path, or the command.
    pub(crate) what: String,
    /// The parameters that matter, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    /// The client's address; `None` for a command on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<IpAddr>,
    /// The HTTP status of the response; `None` if the caller left before it, so that the call may have had its effect. Of a
    /// command 0 (done) or 1 (failed).
    pub(crate) result: Option<u16>,
}

/// The parameters of an administrative call, in words. The handler puts them into the extensions of its response.
#[derive(Clone, Debug)]
pub(crate) struct CallDetail(pub(crate) String);

/// Where the lines go. Clones write to the same place.
#[derive(Debug, Clone)]
pub(crate) struct AuditLog {
    /// `None`: the log, with target `audit`.
    file: Option<Arc<Path>>,
    /// For callers that are not known.
    strangers: Arc<LineBudget>,
}

impl AuditLog {
    /// Writes to this file, or to the log. The file is created for its owner alone.
    ///
    /// # Errors
    ///
    /// The system's, if the file cannot be opened.
    pub(crate) fn open(file: Option<PathBuf>) -> io::Result<Self> {
        if let Some(path) = &file {
            append(path, b"")?;
        }
        Ok(Self::at(file))
    }

    /// Like [`open`](Self::open), but whether the file can be written is not known before the first line.
    pub(crate) fn at(file: Option<PathBuf>) -> Self {
        Self {
            file: file.map(Arc::from),
            strangers: Arc::new(LineBudget::new(STRANGERS_LINES)),
        }
    }

    /// Writes a line. The file is opened each time, so that it may be renamed or removed at any time.
    ///
    /// # Cancel safety
    ///
    /// The line is written even if the future is dropped after its first poll.
    pub(crate) async fn record(&self, call: AuditedCall) {
        if call.who.is_none() && !self.has_room() {
            return;
        }
        let Some(path) = self.file.clone() else {
            return log(&call);
        };
        let line = line(&call);
        // A disk that hangs must not stop the requests of this core.
        let written = tokio::task::spawn_blocking(move || append(&path, &line)).await;
        let failed = match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(error = failed, "cannot write to AUDIT_LOG; the line follows here");
        log(&call);
    }

    /// Writes a line of a call whose future is being dropped.
    pub(crate) fn record_later(&self, call: AuditedCall) {
        match Handle::try_current() {
            Ok(runtime) => {
                let log = self.clone();
                runtime.spawn(async move { log.record(call).await });
            }
            Err(_) => log(&call),
        }
    }

    fn has_room(&self) -> bool {
        match self.strangers.take() {
            None => false,
            Some(0) => true,
            Some(left_out) => {
                tracing::warn!(
                    left_out,
                    "more refused administrative calls of unknown callers than are in the audit log"
                );
                true
            }
        }
    }
}

fn log(call: &AuditedCall) {
    let AuditedCall {
        who,
        what,
        detail,
        from,
        result,
    } = call;
    let from = from.map(tracing::field::display);
    tracing::info!(target: "audit", who, what, detail, from, result, "administrative call");
}

/// A line of the file: JSON, with the time first.
fn line(call: &AuditedCall) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        time: String,
        #[serde(flatten)]
        call: &'a AuditedCall,
    }
    let line = Line { time: now(), call };
    // Cannot fail: all keys are texts.
    let mut line = serde_json::to_vec(&line).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The time as the log writes it: RFC 3339, in UTC.
fn now() -> String {
    let mut text = String::new();
    // Cannot fail: memory accepts every write.
    let _never = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(path)?.write_all(line)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn call(n: usize) -> AuditedCall {
        AuditedCall {
            who: Some(format!("key_{n}")),
            what: "POST /admin/pause".to_owned(),
            detail: Some("for 60 s, \"quoted\"\n".to_owned()),
            from: Some([192, 0, 2, 1].into()),
            result: Some(200),
        }
    }

    #[tokio::test]
    async fn each_call_is_a_line_of_json_that_says_who_did_what_from_where_and_how_it_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let log = AuditLog::open(Some(path.clone())).unwrap();
        let calls = (0..20).map(|n| {
            let log = log.clone();
            tokio::spawn(async move { log.record(call(n)).await })
        });
        futures_util::future::join_all(calls).await;
        let text = std::fs::read_to_string(&path).unwrap();
        let mut callers: Vec<String> = Vec::new();
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["what"], "POST /admin/pause");
            assert_eq!((&line["from"], &line["result"]), (&"192.0.2.1".into(), &200.into()));
            assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
            callers.push(line["who"].as_str().unwrap().to_owned());
        }
        callers.sort();
        let mut expected: Vec<_> = (0..20).map(|n| format!("key_{n}")).collect();
        expected.sort();
        assert_eq!(callers, expected);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_file_that_was_renamed_is_created_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let log = AuditLog::open(Some(path.clone())).unwrap();
        log.record(call(1)).await;
        std::fs::rename(&path, directory.path().join("audit.log.1")).unwrap();
        log.record(call(2)).await;
        assert!(std::fs::read_to_string(&path).unwrap().contains("key_2"));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_are_not_known_get_a_bounded_number_of_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let log = AuditLog::open(Some(path.clone())).unwrap();
        for n in 0..100 {
            log.record(AuditedCall { who: None, ..call(n) }).await;
        }
        log.record(call(1)).await;
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert_eq!(lines, STRANGERS_LINES as usize + 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        AuditLog::open(Some(directory.path().join("none/audit.log"))).unwrap_err();
        AuditLog::open(Some(directory.path().to_owned())).unwrap_err();
    }
}
