//! The clients. Invariant: if an instance does not answer, most clients go on with the others.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use cenote_cache::clock;
use http::Method;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    Error, Result,
    client::{Answer, Connection},
    keyspace::{Keys, value},
    record::{Asked, Notes, Slow},
    world::World,
};

/// Timeout of a request: longer than an instance may take for any answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Requests that take longer are recorded as slow.
const SLOW: Duration = Duration::from_millis(500);
/// The number of keys in a read of several.
const MANY: usize = 4;
/// The most keys that one request may ask for.
const SWEPT_AT_ONCE: usize = 1_000;

/// Running clients.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Result<Notes>>,
}

struct Shared {
    world: Arc<World>,
    keys: Keys,
    /// Limits the clients that wait for each instance.
    places: Vec<Arc<Semaphore>>,
    is_over: AtomicBool,
}

impl Load {
    pub(crate) fn start(world: &Arc<World>, clients: usize) -> Self {
        let instances = world.services.len();
        // A little more than each instance's share, so that a client can choose.
        let places = (clients + instances).div_ceil(instances) + clients / 16;
        let shared = Arc::new(Shared {
            world: world.clone(),
            keys: Keys::new(),
            places: (0..instances).map(|_| Arc::new(Semaphore::new(places))).collect(),
            is_over: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let client = Client {
                number,
                writes: 0,
                connections: (0..instances).map(|_| None).collect(),
                shared: shared.clone(),
                notes: Notes::default(),
            };
            tasks.spawn(client.run());
        }
        Self { shared, clients: tasks }
    }

    /// Lets every client finish its request, and returns the records of all.
    pub(crate) async fn stop(mut self) -> Result<Notes> {
        self.shared.is_over.store(true, Relaxed);
        let mut all = Notes::default();
        while let Some(client) = self.clients.join_next().await {
            all.absorb(client??);
        }
        Ok(all)
    }
}

/// Reads every key once through every instance.
pub(crate) async fn sweep(world: &World) -> Result<Notes> {
    let mut notes = Notes::default();
    let keys = Keys::new();
    for (instance, service) in world.services.iter().enumerate() {
        let mut connection = Connection::open(service.address()).await?;
        for keys in keys.all().chunks(SWEPT_AT_ONCE) {
            let request = Request::ReadMany(keys.to_vec());
            let asked = Asked {
                instance,
                invoked: clock::now(),
            };
            let answer = timeout(PATIENCE, request.send(&mut connection)).await??;
            notes.read_many(&asked, keys, &answer);
        }
    }
    Ok(notes)
}

struct Client {
    number: usize,
    writes: u64,
    connections: Vec<Option<Connection>>,
    shared: Arc<Shared>,
    notes: Notes,
}

/// A request.
enum Request {
    Read(Arc<str>),
    ReadMany(Vec<Arc<str>>),
    Write(Arc<str>, String),
    Delete(Arc<str>),
}

/// The outcome of a request.
enum Reply {
    Answer(Answer),
    /// It was not sent.
    Unsent,
    Lost,
    GivenUp,
}

impl Client {
    async fn run(mut self) -> Result<Notes> {
        while !self.shared.is_over.load(Relaxed) {
            let (instance, _place) = self.place().await?;
            let request = self.draw();
            let deadline = draw_deadline();
            let asked = Asked {
                instance,
                invoked: clock::now(),
            };
            let reply = self.ask(instance, &request, deadline).await;
            self.note(&asked, &request, reply).await;
            if fastrand::u8(..8) == 0 {
                sleep(Duration::from_micros(fastrand::u64(..2_000))).await;
            }
        }
        Ok(self.notes)
    }

    /// Picks an instance for which few clients wait, and takes a permit for it.
    async fn place(&self) -> Result<(usize, OwnedSemaphorePermit)> {
        let places = &self.shared.places;
        let first = fastrand::usize(..places.len());
        for instance in (0..places.len()).map(|n| (first + n) % places.len()) {
            if let Ok(permit) = places[instance].clone().try_acquire_owned() {
                return Ok((instance, permit));
            }
        }
        Ok((first, places[first].clone().acquire_owned().await?))
    }

    fn draw(&mut self) -> Request {
        let keys = &self.shared.keys;
        match fastrand::u8(..100) {
            0..8 => {
                self.writes += 1;
                Request::Write(keys.draw().clone(), value(self.number, self.writes))
            }
            8..10 => Request::Delete(keys.draw().clone()),
            10..14 => {
                // No key twice.
                let keys: BTreeSet<_> = (0..MANY).map(|_| keys.draw().clone()).collect();
                Request::ReadMany(keys.into_iter().collect())
            }
            _ => Request::Read(keys.draw().clone()),
        }
    }

    /// Sends the request on the open connection, or on a new one.
    async fn ask(&mut self, instance: usize, request: &Request, deadline: Duration) -> Reply {
        let kept = self.connections[instance].take();
        let exchange = async {
            let mut connection = match kept.filter(Connection::is_usable) {
                Some(connection) => connection,
                None => {
                    let address = self.shared.world.services[instance].address();
                    let Ok(connection) = Connection::open(address).await else {
                        return (Reply::Unsent, None);
                    };
                    connection
                }
            };
            match request.send(&mut connection).await {
                Ok(answer) => (Reply::Answer(answer), Some(connection)),
                Err(_) => (Reply::Lost, None),
            }
        };
        let (reply, connection) = timeout(deadline, exchange).await.unwrap_or((Reply::GivenUp, None));
        self.connections[instance] = connection;
        reply
    }

    async fn note(&mut self, asked: &Asked, request: &Request, reply: Reply) {
        let now = clock::now();
        let is_given_up = matches!(reply, Reply::GivenUp);
        if now.since(asked.invoked) >= SLOW {
            self.notes.slow.push(Slow {
                instance: asked.instance,
                invoked: asked.invoked,
                ended: now,
                is_answered: !is_given_up,
            });
        }
        match (reply, request) {
            (Reply::Unsent, _) => sleep(Duration::from_millis(20)).await,
            (Reply::Answer(answer), Request::Read(key)) => self.notes.read(asked, key, &answer),
            (Reply::Answer(answer), Request::ReadMany(keys)) => {
                self.notes.read_many(asked, keys, &answer);
            }
            (Reply::Answer(answer), Request::Write(key, value)) => {
                self.notes.written(asked, key, Some(value), &answer);
            }
            (Reply::Answer(answer), Request::Delete(key)) => {
                self.notes.written(asked, key, None, &answer);
            }
            (Reply::Lost | Reply::GivenUp, Request::Write(key, value)) => {
                self.notes.lost(asked, key, Some(value));
            }
            (Reply::Lost | Reply::GivenUp, Request::Delete(key)) => self.notes.lost(asked, key, None),
            (Reply::Lost | Reply::GivenUp, Request::Read(_) | Request::ReadMany(_)) => {}
        }
    }
}

impl Request {
    async fn send(&self, connection: &mut Connection) -> Result<Answer, Error> {
        match self {
            Self::Read(key) => {
                let path = format!("/read/{key}");
                connection.ask(Method::GET, &path, String::new()).await
            }
            Self::ReadMany(keys) => {
                let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
                let body = json!({ "keys": keys }).to_string();
                connection.ask(Method::POST, "/read", body).await
            }
            Self::Write(key, value) => {
                let body = json!({ "key": &**key, "value": value }).to_string();
                connection.ask(Method::POST, "/write", body).await
            }
            Self::Delete(key) => {
                let path = format!("/read/{key}");
                connection.ask(Method::DELETE, &path, String::new()).await
            }
        }
    }
}

/// How long a client waits: most wait long, some give up under load, and a few give up within normal response times.
fn draw_deadline() -> Duration {
    match fastrand::u8(..100) {
        0 => Duration::from_micros(fastrand::u64(..5_000)),
        1..20 => Duration::from_millis(100).mul_f64(50_f64.powf(fastrand::f64())),
        _ => PATIENCE,
    }
}
