//! API keys with a real database.

use std::{
    cell::Cell,
    convert::Infallible,
    time::{Duration, Instant},
};

use cenote_local::PostgresServer;
use cenote_postgres::{Config, Pool};
use cenote_testing::{Direction, Proxy};
use ring::rand::SystemRandom;
use tokio::time::sleep;

use super::{ApiKey, Found, KeyHasher, Keys};
use crate::limits::Overrides;
use crate::{
    auth::{clock::Now, identity::Identity, outcome::Outcome},
    store::{
        SchemaName,
        api_keys::{Admin, AdminError, ApiKeys, Bootstrap, Lifetime, NewKey, Which},
        schema::{Extras, Migration, Waiting},
    },
};

struct Silent;

impl Waiting for Silent {
    fn on(&self, _: Option<(&str, Duration)>) {}
}

/// A database with the table of keys.
struct World {
    server: PostgresServer,
    proxy: Proxy,
    pool: Pool,
    schema: SchemaName,
}

/// A part of a service that authenticates.
struct Instance {
    keys: std::sync::Arc<Keys>,
    following: tokio::task::JoinHandle<()>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Instance {
    fn start(world: &World, stale: Duration) -> Self {
        let table = ApiKeys::beside(&world.pool, &world.schema).unwrap();
        let keys = std::sync::Arc::new(Keys::new(KeyHasher::default(), stale, table));
        let following = keys.clone();
        let following = tokio::spawn(async move { following.follow().await });
        Self { keys, following }
    }

    async fn authenticate(&self, key: &ApiKey) -> Result<std::sync::Arc<Identity>, Outcome> {
        match self.keys.look_up(key.text(), Now::read()) {
            Found::Valid(identity) => Ok(identity),
            Found::Refused(outcome) => Err(outcome),
            Found::Unknown => self.keys.resolve(key).await,
        }
    }

    /// Waits until the key is refused, and returns why and after what time.
    async fn refusal(&self, key: &ApiKey) -> (Outcome, Duration) {
        let started = Instant::now();
        loop {
            if let Err(outcome) = self.authenticate(key).await {
                return (outcome, started.elapsed());
            }
            assert!(started.elapsed() < Duration::from_secs(30), "it is still accepted");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl World {
    async fn start() -> Self {
        let server = PostgresServer::temporary().start().await.unwrap();
        let proxy = Proxy::to(([127, 0, 0, 1], server.port())).await.unwrap();
        let mut config = Config::from_url(&proxy.url(&server.url())).unwrap();
        config.pool.max_size = 2;
        let pool = Pool::new(config).unwrap();
        let schema = SchemaName::default();
        let migration = Migration {
            schema: schema.clone(),
            extras: Extras {
                feed: false,
                api_keys: true,
            },
        };
        migration.run(&pool, &Silent, None).await.unwrap();
        let again = migration.missing(&pool).await.unwrap();
        assert!(again.is_empty(), "the table fits its own description: {again:?}");
        Self {
            server,
            proxy,
            pool,
            schema,
        }
    }

    fn admin(&self) -> Admin<'_> {
        Admin {
            pool: &self.pool,
            schema: &self.schema,
        }
    }

    async fn create(&self, name: &str) -> ApiKey {
        let (key, new) = new_key(name);
        self.admin().create(&new).await.unwrap();
        key
    }
}

fn new_key(name: &str) -> (ApiKey, NewKey) {
    let key = ApiKey::generate(&SystemRandom::new()).unwrap();
    let new = NewKey {
        digest: digest(&key),
        hint: key.hint().to_owned(),
        name: name.to_owned(),
        scopes: "read,write".to_owned(),
        limits: Some("read=5/s".to_owned()),
        expires: None,
    };
    (key, new)
}

fn digest(key: &ApiKey) -> [u8; 32] {
    KeyHasher::default().digest(key).0
}

const STALE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_revoked_key_is_refused_within_a_second_by_three_instances() {
    let world = World::start().await;
    let instances: Vec<_> = (0..3).map(|_| Instance::start(&world, STALE)).collect();
    for how in ["command", "by hand", "deleted"] {
        let key = world.create(how).await;
        for instance in &instances {
            let identity = instance.authenticate(&key).await.unwrap();
            assert!(identity.name.ends_with(&format!(" ({how})")), "{}", identity.name);
            assert_eq!(identity.limits, Overrides::parse("read=5/s").ok());
            assert_eq!(identity.scopes.to_string(), "read,write");
        }
        match how {
            "command" => drop(world.admin().revoke(&Which::Name(how.to_owned())).await.unwrap()),
            "by hand" => drop(
                world
                    .server
                    .query("UPDATE api_keys SET revoked_at = now() WHERE name = 'by hand'")
                    .await
                    .unwrap(),
            ),
            _ => drop(
                world
                    .server
                    .query("DELETE FROM api_keys WHERE name = 'deleted'")
                    .await
                    .unwrap(),
            ),
        }
        let [a, b, c] = &instances[..] else { unreachable!() };
        let (a, b, c) = tokio::join!(a.refusal(&key), b.refusal(&key), c.refusal(&key));
        let expected = match how {
            "deleted" => Outcome::Unknown,
            _ => Outcome::Revoked,
        };
        for (outcome, after) in [a, b, c] {
            assert_eq!(outcome, expected, "{how}");
            assert!(after < Duration::from_secs(1), "{how}: {after:?}");
        }
    }
}

#[tokio::test]
async fn a_key_gets_the_scopes_that_its_row_has_now() {
    let world = World::start().await;
    let instance = Instance::start(&world, STALE);
    let key = world.create("ada").await;
    instance.authenticate(&key).await.unwrap();
    world.server.query("UPDATE api_keys SET scopes = 'read'").await.unwrap();
    let started = Instant::now();
    while instance.authenticate(&key).await.unwrap().scopes.to_string() != "read" {
        assert!(started.elapsed() < Duration::from_secs(30));
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn while_the_database_is_away_known_keys_go_on_and_others_are_not_called_invalid() {
    let world = World::start().await;
    let instance = Instance::start(&world, STALE);
    let impatient = Instance::start(&world, Duration::ZERO);
    let (known, unknown) = (world.create("known").await, world.create("unknown").await);
    instance.authenticate(&known).await.unwrap();
    impatient.authenticate(&known).await.unwrap();
    world.server.stop().await.unwrap();
    instance.authenticate(&known).await.unwrap();
    assert_eq!(instance.authenticate(&unknown).await.unwrap_err(), Outcome::Unavailable);
    let (outcome, after) = impatient.refusal(&known).await;
    assert_eq!(outcome, Outcome::Unavailable);
    assert!(after > Duration::from_secs(3), "{after:?}");
    instance.authenticate(&known).await.unwrap();
    world.server.restart().await.unwrap();
    let started = Instant::now();
    for instance in [&instance, &impatient] {
        for key in [&known, &unknown] {
            while let Err(outcome) = instance.authenticate(key).await {
                assert_eq!(outcome, Outcome::Unavailable);
                assert!(started.elapsed() < Duration::from_secs(30));
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_flood_of_unknown_keys_does_not_reach_the_database_and_good_keys_still_do() {
    let world = World::start().await;
    let instance = Instance::start(&world, STALE);
    let key = world.create("ada").await;
    let started = Instant::now();
    let mut looked_up = 0;
    for _ in 0..2_000 {
        let unknown = ApiKey::generate(&SystemRandom::new()).unwrap();
        match instance.authenticate(&unknown).await.unwrap_err() {
            Outcome::Unknown => looked_up += 1,
            outcome => assert_eq!(outcome, Outcome::Throttled),
        }
    }
    let most = 20 * (started.elapsed().as_secs() + 1);
    assert!((20..=most).contains(&looked_up), "{looked_up} of {most}");
    instance.authenticate(&key).await.unwrap_err();
    sleep(Duration::from_secs(1)).await;
    instance.authenticate(&key).await.unwrap();
}

#[tokio::test]
async fn a_burst_of_unknown_keys_is_throttled_and_not_called_an_outage() {
    let world = World::start().await;
    let instance = Instance::start(&world, STALE);
    // Opens the connection.
    instance.authenticate(&world.create("ada").await).await.unwrap();
    let unknown: Vec<_> = (0..100).map(|_| new_key("unknown").0).collect();
    let all = unknown.iter().map(|key| instance.authenticate(key));
    let outcomes = futures_util::future::join_all(all).await;
    let count = |outcome| outcomes.iter().filter(|it| it.as_ref().err() == Some(&outcome)).count();
    assert_eq!((count(Outcome::Unknown), count(Outcome::Throttled)), (20, 80));
}

#[tokio::test]
async fn a_slow_database_confirms_known_keys_during_a_flood_of_unknown_ones() {
    let world = World::start().await;
    let instance = Instance::start(&world, STALE);
    let key = world.create("ada").await;
    instance.authenticate(&key).await.unwrap();
    world.proxy.delay(Direction::ToClient, Duration::from_millis(100));
    let until = Instant::now() + Duration::from_secs(3);
    let flood = (0..40).map(async |_| {
        while Instant::now() < until {
            let _refused = instance.authenticate(&new_key("unknown").0).await;
            sleep(Duration::from_millis(20)).await;
        }
    });
    futures_util::future::join_all(flood).await;
    let unconfirmed = instance.keys.stats().unconfirmed;
    assert!(unconfirmed < Duration::from_secs(2), "{unconfirmed:?}");
    instance.authenticate(&key).await.unwrap();
}

#[tokio::test]
async fn many_good_keys_can_be_used_for_the_first_time_at_once() {
    let world = World::start().await;
    let instance = Instance::start(&world, STALE);
    let mut keys = Vec::new();
    for n in 0..100 {
        keys.push(world.create(&format!("key {n}")).await);
    }
    let all = keys.iter().map(|key| instance.authenticate(key));
    for result in futures_util::future::join_all(all).await {
        result.unwrap();
    }
}

#[tokio::test]
async fn the_last_use_of_a_key_is_noted_by_the_minute() {
    let world = World::start().await;
    let instance = Instance::start(&world, STALE);
    let key = world.create("used").await;
    world.create("unused").await;
    instance.authenticate(&key).await.unwrap();
    let started = Instant::now();
    let used = async || {
        world
            .admin()
            .list()
            .await
            .unwrap()
            .into_iter()
            .map(|key| key.last_used)
            .collect::<Vec<_>>()
    };
    let used = loop {
        match &used().await[..] {
            [Some(at), unused] => break (at.clone(), unused.clone()),
            _ => assert!(started.elapsed() < Duration::from_secs(30)),
        }
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(used.1, None);
    assert_eq!(used.0.len(), "2026-11-30T09:00Z".len(), "{}", used.0);
}

#[tokio::test]
async fn a_rotated_key_has_the_same_owner_and_the_old_one_expires() {
    let world = World::start().await;
    let instance = Instance::start(&world, STALE);
    let old = world.create("shop").await;
    let before = instance.authenticate(&old).await.unwrap();
    let next = ApiKey::generate(&SystemRandom::new()).unwrap();
    let name = Which::Name("shop".to_owned());
    let overlap = Duration::from_secs(2);
    let rotated = world
        .admin()
        .rotate(&name, &digest(&next), next.hint(), overlap, Lifetime::AsBefore)
        .await;
    assert_eq!(rotated.unwrap().expires, None);
    let after = instance.authenticate(&next).await.unwrap();
    assert_eq!(before, after);
    instance.authenticate(&old).await.unwrap();
    let (outcome, _) = instance.refusal(&old).await;
    assert_eq!(outcome, Outcome::Expired);
    instance.authenticate(&next).await.unwrap();
    world.create("shop").await;
    let error = world
        .admin()
        .rotate(&name, &[7; 32], "cnk_00", overlap, Lifetime::Never)
        .await;
    assert!(matches!(error, Err(AdminError::Several(_))));
    assert_eq!(world.admin().revoke(&name).await.unwrap().len(), 3);
    assert!(matches!(world.admin().revoke(&name).await, Err(AdminError::None)));
    let error = world
        .admin()
        .rotate(&Which::Id(1), &[8; 32], "cnk_00", overlap, Lifetime::Never)
        .await;
    assert!(matches!(error, Err(AdminError::None)), "a revoked key is not replaced");
}

#[tokio::test]
async fn of_several_instances_that_start_at_once_one_makes_the_first_key() {
    let world = World::start().await;
    let admin = world.admin();
    let made = Cell::new(0);
    let make = || {
        made.set(made.get() + 1);
        Ok::<_, Infallible>(new_key("bootstrap").1)
    };
    let created = futures_util::future::join_all((0..4).map(|_| admin.bootstrap(make))).await;
    let created: Vec<_> = created.into_iter().map(|it| it.unwrap().unwrap()).collect();
    assert_eq!(created.iter().filter(|it| **it == Bootstrap::Created).count(), 1);
    assert_eq!(
        made.get(),
        1,
        "a key that the table does not get may not be written to the file"
    );
    admin.revoke(&Which::Name("bootstrap".to_owned())).await.unwrap();
    let again = admin.bootstrap(make).await.unwrap().unwrap();
    assert_eq!((again, made.get()), (Bootstrap::NotNeeded, 1), "a revoked key is a key");
    let key = world.create("known").await;
    assert!(admin.has(&digest(&key)).await.unwrap());
    assert!(!admin.has(&[7; 32]).await.unwrap());
}
