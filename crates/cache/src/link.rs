//! The connections to one run of a Redis. Invariant: all lead to the same run, and none ever reconnects: once one fails,
//! the link is broken for good and a new one takes its place.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, Pipeline, ProtocolVersion, PushInfo, RedisError,
    RedisResult, Value, aio::MultiplexedConnection,
};
use tokio::sync::Notify;

use crate::{epoch::Identity, scripts};

/// One of the scripts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Script {
    Lease,
    Fence,
    Release,
    Fill,
    Inval,
}

const SOURCES: [&str; 5] = [
    scripts::LEASE,
    scripts::FENCE,
    scripts::RELEASE,
    scripts::FILL,
    scripts::INVAL,
];

/// A script's key and arguments.
pub(crate) struct Call<'a, const N: usize> {
    pub(crate) key: &'a [u8],
    pub(crate) arguments: [&'a [u8]; N],
}

/// Which connection a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// Any that is not for reading.
    Any,
    /// The one that is told of changes, if there is one.
    Reading,
}

/// What a link is made with.
pub(crate) struct Plan {
    pub(crate) client: Client,
    pub(crate) connections: usize,
    pub(crate) timeout: Duration,
    /// The key that shows that Redis takes writes.
    pub(crate) probe: Vec<u8>,
}

pub(crate) struct Link {
    identity: Identity,
    connections: Vec<MultiplexedConnection>,
    reading: Option<MultiplexedConnection>,
    /// The names under which the server keeps the scripts.
    digests: [String; SOURCES.len()],
    next: AtomicUsize,
    broken: AtomicBool,
    breaks: Notify,
}

/// The call failed, and with it the link.
#[derive(Debug)]
pub(crate) struct Broken;

impl Link {
    /// Connects. With `told`, one connection is told of changes to what was read through it: the closure gets the
    /// server's messages in the order of the wire, and the end of the connection.
    pub(crate) async fn connect<T>(plan: &Plan, told: Option<T>) -> RedisResult<Self>
    where
        T: Fn(PushInfo) + Send + Sync + 'static,
    {
        let config = || {
            AsyncConnectionConfig::new()
                .set_connection_timeout(Some(plan.timeout * 4))
                .set_response_timeout(Some(plan.timeout))
        };
        let mut connections = Vec::with_capacity(plan.connections);
        for _ in 0..plan.connections {
            connections.push(open(&plan.client, &config()).await?);
        }
        let reading = match told {
            None => None,
            Some(told) => {
                let told = move |message| {
                    told(message);
                    Ok::<(), ()>(()) // an error would only be ignored
                };
                let client = in_resp3(&plan.client)?;
                let mut connection = open(&client, &config().set_push_sender(told)).await?;
                let () = redis::cmd("CLIENT")
                    .arg(&["TRACKING", "ON"])
                    .query_async(&mut connection)
                    .await?;
                Some(connection)
            }
        };
        let mut identities = Vec::new();
        for connection in connections.iter_mut().chain(reading.clone().as_mut()) {
            identities.push(identity(connection).await?);
        }
        let [identity, others @ ..] = &identities[..] else {
            return Err(protocol("there is no connection"));
        };
        if others.iter().any(|other| other != identity) {
            return Err(protocol("the connections lead to different servers"));
        }
        let mut pipeline = redis::pipe();
        for source in SOURCES {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(source);
        }
        let digests: Vec<String> = pipeline.query_async(&mut connections[0]).await?;
        let link = Self {
            identity: *identity,
            digests: digests
                .try_into()
                .map_err(|_| protocol("a script was not loaded"))?,
            connections,
            reading,
            next: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            breaks: Notify::new(),
        };
        link.probe(plan).await?;
        Ok(link)
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// Returns when the link breaks.
    pub(crate) async fn broken(&self) {
        self.breaks.notified().await;
    }

    /// Ends the link for everybody.
    pub(crate) fn cut(&self) {
        self.broken.store(true, Relaxed);
        self.breaks.notify_one();
    }

    /// Shows that every connection answers and that the server takes writes: a replica, or a server without memory,
    /// can hold no fences.
    pub(crate) async fn probe(&self, plan: &Plan) -> RedisResult<()> {
        for connection in &self.connections[1..] {
            let () = redis::cmd("PING")
                .query_async(&mut connection.clone())
                .await?;
        }
        let call = Call {
            key: &plan.probe,
            arguments: [&[0; 16], b"1000"],
        };
        let connection = self.connections[0].clone();
        let answers = self.call_on(connection, Script::Fence, &[call]).await;
        answers.map(drop)
    }

    /// Returns once everything the server had told before it got this has been applied.
    pub(crate) async fn ping(&self) -> RedisResult<()> {
        let mut connection = self.connection(Via::Reading);
        redis::cmd("PING").query_async(&mut connection).await
    }

    /// Runs commands and returns their answers in order.
    pub(crate) async fn run(&self, via: Via, commands: &Pipeline) -> Result<Vec<Value>, Broken> {
        let answers = self.query(commands, &self.connection(via)).await;
        let answers: RedisResult<Vec<Value>> =
            answers.and_then(|answers| answers.into_iter().collect());
        self.or_broken(answers)
    }

    /// Runs a script for each of these keys and returns the answers in order.
    pub(crate) async fn call<const N: usize>(
        &self,
        via: Via,
        script: Script,
        calls: &[Call<'_, N>],
    ) -> Result<Vec<Value>, Broken> {
        let connection = self.connection(via);
        let called = self.call_on(connection, script, calls).await;
        self.or_broken(called)
    }

    /// A call that did not find its script had no effect, so it is made again.
    async fn call_on<const N: usize>(
        &self,
        mut connection: MultiplexedConnection,
        script: Script,
        calls: &[Call<'_, N>],
    ) -> RedisResult<Vec<Value>> {
        let pipeline = self.pipeline(script, calls);
        let mut answers = self.query(&pipeline, &connection).await?;
        if answers.iter().any(is_no_script) {
            let () = redis::cmd("SCRIPT")
                .arg("LOAD")
                .arg(SOURCES[script as usize])
                .query_async(&mut connection)
                .await?;
            for (call, answer) in calls.iter().zip(&mut answers) {
                if is_no_script(answer) {
                    let again = self.pipeline(script, std::slice::from_ref(call));
                    let again = self.query(&again, &connection).await?;
                    *answer = again
                        .into_iter()
                        .next()
                        .unwrap_or_else(|| Err(protocol("an answer is missing")));
                }
            }
        }
        answers.into_iter().collect()
    }

    fn pipeline<const N: usize>(&self, script: Script, calls: &[Call<'_, N>]) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(calls.len());
        for call in calls {
            pipeline
                .cmd("EVALSHA")
                .arg(&self.digests[script as usize])
                .arg(1)
                .arg(call.key)
                .arg(&call.arguments[..]);
        }
        pipeline
    }

    /// One answer for each command.
    async fn query(
        &self,
        commands: &Pipeline,
        connection: &MultiplexedConnection,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let mut commands = commands.clone();
        let expected = commands.len();
        let answers: Vec<RedisResult<Value>> = commands
            .ignore_errors()
            .query_async(&mut connection.clone())
            .await?;
        if answers.len() == expected {
            Ok(answers)
        } else {
            Err(protocol("an answer is missing"))
        }
    }

    fn connection(&self, via: Via) -> MultiplexedConnection {
        match &self.reading {
            Some(reading) if via == Via::Reading => reading.clone(),
            _ => {
                let next = self.next.fetch_add(1, Relaxed);
                self.connections[next % self.connections.len()].clone()
            }
        }
    }

    /// Whatever the failure was: a server that refuses what the protocol needs is as good as none.
    fn or_broken<T>(&self, result: RedisResult<T>) -> Result<T, Broken> {
        result.map_err(|error| {
            tracing::debug!(%error, "a call to Redis failed");
            self.cut();
            Broken
        })
    }
}

/// The bytes of an answer, if it has any.
pub(crate) fn bytes(answer: Value) -> Option<Bytes> {
    match answer {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}

async fn open(
    client: &Client,
    config: &AsyncConnectionConfig,
) -> RedisResult<MultiplexedConnection> {
    client
        .get_multiplexed_async_connection_with_config(config)
        .await
}

/// Only in this version of the protocol does a server tell of changes.
fn in_resp3(client: &Client) -> RedisResult<Client> {
    let info = client.get_connection_info().clone();
    let settings = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    Client::open(info.set_redis_settings(settings))
}

/// The run id of the server at the other end.
async fn identity(connection: &mut MultiplexedConnection) -> RedisResult<Identity> {
    let info: String = redis::cmd("INFO")
        .arg("server")
        .query_async(connection)
        .await?;
    let id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
    id.and_then(|id| parse_run_id(id.trim()))
        .ok_or_else(|| protocol("the server did not tell its run id"))
}

fn parse_run_id(id: &str) -> Option<Identity> {
    let digits: Vec<_> = id.chars().map(|digit| digit.to_digit(16)).collect();
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let pairs: &[[_; 2]; 20] = pairs.try_into().ok()?;
    let mut bytes = [0; 20];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = u8::try_from((*high)? << 4 | (*low)?).ok()?;
    }
    Some(Identity(bytes))
}

fn is_no_script(answer: &RedisResult<Value>) -> bool {
    matches!(answer, Err(error) if error.code() == Some("NOSCRIPT"))
}

fn protocol(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Client, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_is_forty_hexadecimal_digits() {
        let id: String = std::array::from_fn::<_, 40, _>(|at| char::from(b"0f"[at % 2]))
            .iter()
            .collect();
        assert_eq!(parse_run_id(&id), Some(Identity([0x0f; 20])));
        assert_eq!(parse_run_id(&id[1..]), None);
        assert_eq!(parse_run_id(&id.replace('0', "g")), None);
    }
}
