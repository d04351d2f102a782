//! A service whose tokens are verified with the keys of an identity provider, which also changes them, hangs and lies.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    Answer, Connection, Service, eventually,
    tokens::{in_seconds, token},
};

/// A key of the provider, with its id.
struct Key {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pair.as_ref(), &random).unwrap();
        Self { id, pair }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        json!({"kid": self.id, "kty": "EC", "crv": "P-256", "x": x, "y": y})
    }

    /// A token that no other call returns.
    fn token(&self) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({"alg": "ES256", "kid": self.id}));
        let signed = format!("{header}.{}", part(claims()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn claims() -> Value {
    json!({"sub": "ada", "aud": "cenote", "scope": "read", "exp": in_seconds(600), "jti": fastrand::u64(..)})
}

/// What the provider answers.
#[derive(Clone)]
enum Behaviour {
    Answer(String),
    Hang,
}

struct Provider {
    url: String,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl Provider {
    async fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let behaviour = Arc::new(Mutex::new(Behaviour::Hang));
        let provider = Self {
            url,
            behaviour: behaviour.clone(),
        };
        provider.publish(keys);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let behaviour = behaviour.lock().unwrap().clone();
                tokio::spawn(answer(stream, behaviour));
            }
        });
        provider
    }

    fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn publish(&self, keys: &[&Key]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        self.set(Behaviour::Answer(json!({ "keys": keys }).to_string()));
    }

    /// A service that has this provider's keys: it accepts a token of `known`.
    async fn service(&self, known: &Key) -> Service {
        let settings = [
            ("AUTH", "jwt"),
            ("JWT_JWKS_URL", self.url.as_str()),
            ("JWT_AUDIENCE", "cenote"),
            ("RATE_LIMIT_AUTH_FAILURES", "off"),
        ];
        let service = Service::start(&settings).await;
        eventually("the keys are loaded", async || {
            (get(service.address, &known.token()).await.status == 404).then_some(())
        })
        .await;
        service
    }
}

async fn answer(mut stream: TcpStream, behaviour: Behaviour) {
    let _read = stream.read(&mut [0; 1024]).await;
    match behaviour {
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Answer(body) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _sent = stream.write_all((head + &body).as_bytes()).await;
        }
    }
}

/// Reads a key that does not exist: 404 for a token that is accepted.
async fn get(address: SocketAddr, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut connection = Connection::open(address).await.unwrap();
    let headers = [("authorization", bearer.as_str())];
    connection.ask("GET", "/read/absent", &headers, "").await.unwrap()
}

#[tokio::test]
async fn a_rotated_key_is_picked_up_and_the_old_one_ends_with_it() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let provider = Provider::start(&[&old]).await;
    let service = provider.service(&old).await;
    provider.publish(&[&new]);
    get(service.address, &new.token()).await.problem(404, "not-found");
    get(service.address, &old.token()).await.problem(401, "unauthorized");
}

#[tokio::test]
async fn a_provider_that_is_away_at_the_start_is_asked_again_soon() {
    let key = Key::new("known");
    let provider = Provider::start(&[&key]).await;
    provider.set(Behaviour::Hang);
    let service = Service::start(&[
        ("AUTH", "jwt"),
        ("JWT_JWKS_URL", &provider.url),
        ("JWT_AUDIENCE", "cenote"),
        ("AUTH_OPEN", "health"),
    ])
    .await;
    get(service.address, &key.token())
        .await
        .problem(503, "auth-unavailable");
    let health = service.get("/health").await.json(200);
    assert_eq!(health["status"], "degraded", "{health}");
    provider.publish(&[&key]);
    eventually("its keys are loaded", async || {
        (get(service.address, &key.token()).await.status == 404).then_some(())
    })
    .await;
    assert_eq!(service.get("/health").await.json(200)["status"], "ok");
}

#[tokio::test]
async fn a_provider_that_hangs_delays_only_tokens_with_an_unknown_key() {
    let (known, unknown) = (Key::new("known"), Key::new("unknown"));
    let provider = Provider::start(&[&known]).await;
    let service = provider.service(&known).await;
    provider.set(Behaviour::Hang);
    let (address, token) = (service.address, unknown.token());
    let waiting = tokio::spawn(async move { get(address, &token).await });
    for _ in 0..10 {
        get(service.address, &known.token()).await.problem(404, "not-found");
    }
    assert!(!waiting.is_finished(), "the provider was asked");
    waiting.await.unwrap().problem(401, "unauthorized");
    // While the provider rests, nobody waits for it.
    get(service.address, &unknown.token())
        .await
        .problem(401, "unauthorized");
    get(service.address, &known.token()).await.problem(404, "not-found");
}

#[tokio::test]
async fn a_provider_that_sends_garbage_changes_nothing() {
    let (known, unknown) = (Key::new("known"), Key::new("unknown"));
    let keys = json!({"keys": [unknown.jwk()]}).to_string();
    for lie in [
        "<html>".to_owned(),
        json!({"keys": []}).to_string(),
        keys.clone() + &" ".repeat(256 << 10),
    ] {
        let provider = Provider::start(&[&known]).await;
        let service = provider.service(&known).await;
        provider.set(Behaviour::Answer(lie));
        get(service.address, &unknown.token())
            .await
            .problem(401, "unauthorized");
        get(service.address, &known.token()).await.problem(404, "not-found");
        service.logged("cannot load the keys of tokens").await;
    }
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let key = Key::new("known");
    let provider = Provider::start(&[&key]).await;
    let service = provider.service(&key).await;
    let jwk = key.jwk();
    let header = json!({"alg": "HS256", "kid": "known"});
    let texts = [jwk.to_string(), jwk["x"].as_str().unwrap().to_owned()];
    for secret in texts {
        let forged = token(&header, &claims(), &secret);
        get(service.address, &forged).await.problem(401, "unauthorized");
    }
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", part(json!({"alg": "none", "kid": "known"})), part(claims()));
    get(service.address, &unsigned).await.problem(401, "unauthorized");
}
