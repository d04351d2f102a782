//! Sends one command to a Redis. Invariant: each command has its own connection, which is closed afterwards.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::error::{Result, command_failed};

/// Timeout: longer than any command of a test takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a command and returns its answer: the text of a string, status or number, and the raw reply of anything else.
pub(super) async fn ask(port: u16, password: &str, words: &[&str]) -> Result<String> {
    let failed = |reason: String| command_failed(format!("redis {}", words.first().unwrap_or(&"")), reason);
    match timeout(PATIENCE, exchange(port, password, words)).await {
        Err(_) => Err(failed(format!("no answer within {PATIENCE:?}"))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Ok(Ok(answer)) => match answer.strip_prefix('-') {
            Some(refusal) => Err(failed(refusal.trim_end().to_owned())),
            None => Ok(text(&answer).to_owned()),
        },
    }
}

async fn exchange(port: u16, password: &str, words: &[&str]) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut request = encode(&["AUTH", password]);
    request += &encode(words);
    request += &encode(&["QUIT"]);
    stream.write_all(request.as_bytes()).await?;
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).await?;
    let answers = String::from_utf8_lossy(&answers);
    answers
        .strip_prefix(OK)
        .and_then(|rest| rest.strip_suffix(OK))
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other(answers.trim().to_owned()))
}

const OK: &str = "+OK\r\n";

fn encode(words: &[&str]) -> String {
    let words_of_it = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), words_of_it.collect::<String>())
}

fn text(answer: &str) -> &str {
    let body = answer.strip_suffix("\r\n").unwrap_or(answer);
    match body.split_at_checked(1) {
        Some(("+" | ":", text)) => text,
        Some(("$", text)) => text.split_once("\r\n").map_or("", |(_, text)| text),
        _ => body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_framed_and_its_answer_unframed() {
        assert_eq!(encode(&["GET", "a b"]), "*2\r\n$3\r\nGET\r\n$3\r\na b\r\n");
        assert_eq!(text("+PONG\r\n"), "PONG");
        assert_eq!(text(":7\r\n"), "7");
        assert_eq!(text("$4\r\na\r\nb\r\n"), "a\r\nb");
        assert_eq!(text("$-1\r\n"), "");
    }
}
