//! A viewer of the dashboard: reads the stream of events, as a page does.
//!
//! Invariant: it reads only when it is asked for the next event, so a test can let it stall.

use std::{collections::HashMap, net::SocketAddr};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{SOON, Service};

/// An open stream of events over HTTP/1.1.
pub(crate) struct Events {
    stream: TcpStream,
    pub(crate) status: u16,
    /// By name in lower case.
    pub(crate) headers: HashMap<String, String>,
    /// Bytes of the connection that are not parsed yet.
    raw: Vec<u8>,
    /// Text of the body that is not parsed yet.
    text: String,
    /// What the chunks hold that is not UTF-8 yet, or the end of the body.
    has_ended: bool,
    /// The state so far: that of the first event, with what changed since.
    pub(crate) state: Value,
}

impl Events {
    /// Asks for the events. The answer may be a refusal.
    pub(crate) async fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        stream.write_all((request + "\r\n").as_bytes()).await.unwrap();
        let mut events = Self {
            stream,
            status: 0,
            headers: HashMap::new(),
            raw: Vec::new(),
            text: String::new(),
            has_ended: false,
            state: Value::Null,
        };
        let end = loop {
            match events.raw.windows(4).position(|w| w == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => assert!(events.more().await, "the connection ended in the head"),
            }
        };
        let head = String::from_utf8(events.raw.drain(..end).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        events.status = status.unwrap().parse().unwrap();
        events.headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        events
    }

    /// The next event: its name and data. `None` at the end of the stream. Comments are skipped.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            let Some(end) = self.text.find("\n\n") else {
                if !self.more_text().await {
                    return None;
                }
                continue;
            };
            let block: String = self.text.drain(..end + 2).collect();
            let field = |name| block.lines().find_map(|line| line.strip_prefix(name));
            let (Some(name), Some(data)) = (field("event: "), field("data: ")) else {
                assert!(block.starts_with(':') || block.starts_with("retry: "), "{block:?}");
                continue;
            };
            let data: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {block}"));
            match name {
                "start" => self.state = data["state"].clone(),
                "state" => {
                    for (member, value) in data.as_object().unwrap() {
                        self.state[member] = value.clone();
                    }
                }
                _ => {}
            }
            return Some((name.to_owned(), data));
        }
    }

    /// The data of the next event of this name.
    pub(crate) async fn next_of(&mut self, wanted: &str) -> Value {
        loop {
            match self.next().await {
                Some((name, data)) if name == wanted => return data,
                Some(_) => {}
                None => panic!("the stream ended before an event {wanted}"),
            }
        }
    }

    /// Whether the dashboard has a verdict of this name now.
    pub(crate) fn has_verdict(&self, name: &str) -> bool {
        let mut verdicts = self.state["verdicts"].as_array().into_iter().flatten();
        verdicts.any(|verdict| verdict["name"] == name)
    }

    /// Reads until there is a verdict of this name, and returns it.
    pub(crate) async fn verdict(&mut self, name: &str) -> Value {
        loop {
            let mut verdicts = self.state["verdicts"].as_array().into_iter().flatten();
            if let Some(verdict) = verdicts.find(|verdict| verdict["name"] == name) {
                return verdict.clone();
            }
            let event = timeout(SOON, self.next()).await;
            let state = &self.state["verdicts"];
            event
                .unwrap_or_else(|_| panic!("no verdict {name}: {state}"))
                .expect("the stream goes on");
        }
    }

    /// Reads until the stream ends, and returns its last event.
    pub(crate) async fn last(&mut self) -> (String, Value) {
        let mut last = None;
        while let Some(event) = self.next().await {
            last = Some(event);
        }
        last.unwrap()
    }

    /// Reads a chunk, or the rest if the body is not in chunks. False at the end.
    async fn more_text(&mut self) -> bool {
        loop {
            if self.has_ended {
                return false;
            }
            let line = self.raw.windows(2).position(|w| w == b"\r\n");
            if let Some(line) = line {
                let size = std::str::from_utf8(&self.raw[..line]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                let chunk = line + 2..line + 2 + size;
                if self.raw.len() >= chunk.end + 2 {
                    self.text += std::str::from_utf8(&self.raw[chunk.clone()]).unwrap();
                    self.raw.drain(..chunk.end + 2);
                    self.has_ended = size == 0;
                    return !self.has_ended;
                }
            }
            if !self.more().await {
                self.has_ended = true;
            }
        }
    }

    async fn more(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.raw);
        timeout(SOON, read).await.expect("an event in time").unwrap_or(0) > 0
    }
}

impl Service {
    /// Watches without credentials.
    pub(crate) async fn watch(&self) -> Events {
        let events = Events::open(self.address, "/dashboard/events", &[]).await;
        assert_eq!(events.status, 200);
        events
    }
}
