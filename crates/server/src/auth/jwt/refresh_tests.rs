//! Where keys come from, with an issuer that also hangs and lies.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::super::{clock::Now, outcome::Outcome};
use super::{
    claims::ClaimRules,
    key_refresh::TokenConfig,
    signer::{SECRET, Signer},
    source::KeySource,
    tokens::{KnownToken, Tokens},
};

/// What the issuer answers.
#[derive(Clone)]
enum Behaviour {
    Answer { status: &'static str, body: String },
    Hang,
}

/// An issuer of tokens on this machine.
struct Issuer {
    behaviour: Arc<Mutex<Behaviour>>,
    requests: Arc<AtomicUsize>,
    url: String,
}

impl Issuer {
    async fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let issuer = Self {
            behaviour: Arc::new(Mutex::new(Behaviour::Hang)),
            requests: Arc::default(),
            url,
        };
        issuer.publish(keys);
        let (behaviour, requests) = (issuer.behaviour.clone(), issuer.requests.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                requests.fetch_add(1, Relaxed);
                let behaviour = behaviour.lock().unwrap().clone();
                tokio::spawn(answer(stream, behaviour));
            }
        });
        issuer
    }

    fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn publish(&self, keys: &[Value]) {
        let body = json!({ "keys": keys }).to_string();
        self.set(Behaviour::Answer { status: "200 OK", body });
    }

    fn requests(&self) -> usize {
        self.requests.load(Relaxed)
    }

    fn source(&self) -> KeySource {
        KeySource::Url(self.url.parse().unwrap())
    }

    fn tokens(&self) -> Tokens {
        tokens(self.source())
    }
}

async fn answer(mut stream: TcpStream, behaviour: Behaviour) {
    let mut request = [0; 1024];
    let _read = stream.read(&mut request).await;
    match behaviour {
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Answer { status, body } => {
            let head = format!(
                "HTTP/1.1 {status}\r\nLocation: /elsewhere\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _sent = stream.write_all((head + &body).as_bytes()).await;
        }
    }
}

fn tokens(source: KeySource) -> Tokens {
    let rules = ClaimRules {
        issuer: None,
        audiences: Vec::new(),
        leeway: 30,
        scopes: None,
    };
    Tokens::new(TokenConfig { source, rules })
}

fn claims() -> Value {
    json!({"sub": "ada", "exp": 4_000_000_000u64})
}

async fn verify(tokens: &Tokens, token: &str) -> Result<(), Outcome> {
    match tokens.look_up(token, Now::read()) {
        KnownToken::Valid(_) => Ok(()),
        KnownToken::Refused(outcome) => Err(outcome),
        KnownToken::Unknown => tokens.verify(token).await.map(drop),
    }
}

fn is_cached(tokens: &Tokens, token: &str) -> bool {
    matches!(tokens.look_up(token, Now::read()), KnownToken::Valid(_))
}

#[tokio::test]
async fn a_rotated_key_is_found_through_its_id_and_random_ids_do_not_reach_the_issuer() {
    let (old, new) = (Signer::es256(), Signer::es256());
    let issuer = Issuer::start(&[old.jwk("old")]).await;
    let tokens = Arc::new(issuer.tokens());
    tokens.load_keys().await.unwrap();
    let follow = tokens.clone();
    let follow = tokio::spawn(async move { follow.follow_keys().await });
    let known = old.token(Some("old"), &claims());
    assert_eq!(verify(&tokens, &known).await, Ok(()));
    issuer.publish(&[old.jwk("old"), new.jwk("new")]);
    assert_eq!(verify(&tokens, &new.token(Some("new"), &claims())).await, Ok(()));
    assert_eq!(verify(&tokens, &known).await, Ok(()));
    let before = issuer.requests();
    let started = Instant::now();
    for n in 0..100 {
        let random = new.token(Some(&n.to_string()), &claims());
        assert_eq!(verify(&tokens, &random).await, Err(Outcome::Kid));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "none of them waited");
    assert_eq!(issuer.requests(), before);
    follow.abort();
}

#[tokio::test]
async fn an_issuer_that_lies_changes_nothing() {
    let (signer, other) = (Signer::eddsa(), Signer::eddsa());
    let issuer = Issuer::start(&[signer.jwk("a")]).await;
    let tokens = issuer.tokens();
    assert_eq!(tokens.load_keys().await.unwrap(), 1);
    let good = json!({"keys": [other.jwk("b")]}).to_string();
    let lies = [
        ("500 Internal Server Error", good.clone()),
        ("302 Found", good.clone()),
        ("204 No Content", String::new()),
        ("200 OK", String::new()),
        ("200 OK", "<html>".to_owned()),
        ("200 OK", json!({"keys": []}).to_string()),
        ("200 OK", json!({"keys": [Signer::hs256().jwk("c")]}).to_string()),
        ("200 OK", json!({"keys": vec![other.jwk("b"); 65]}).to_string()),
        ("200 OK", format!("{good}{}", " ".repeat(256 << 10))),
    ];
    for (status, body) in lies {
        issuer.set(Behaviour::Answer { status, body });
        let error = tokens.load_keys().await.unwrap_err();
        assert_eq!(tokens.stats().keys.problem, Some(error.to_string()));
        assert_eq!(
            verify(&tokens, &signer.token(Some("a"), &claims())).await,
            Ok(()),
            "{error}"
        );
    }
    issuer.publish(&[other.jwk("b")]);
    tokens.load_keys().await.unwrap();
    assert_eq!(tokens.stats().keys.problem, None);
    assert_eq!(
        verify(&tokens, &signer.token(Some("a"), &claims())).await,
        Err(Outcome::Kid)
    );
}

#[tokio::test]
async fn an_issuer_that_hangs_holds_up_nobody_with_a_known_key() {
    let signer = Signer::es256();
    let issuer = Issuer::start(&[signer.jwk("a")]).await;
    let tokens = Arc::new(issuer.tokens());
    tokens.load_keys().await.unwrap();
    issuer.set(Behaviour::Hang);
    let follow = tokens.clone();
    let follow = tokio::spawn(async move { follow.follow_keys().await });
    let waiting = tokens.clone();
    let unknown = signer.token(Some("b"), &claims());
    let waiting = tokio::spawn(async move { verify(&waiting, &unknown).await });
    let started = Instant::now();
    for n in 0..10 {
        let token = signer.token(Some("a"), &json!({"exp": 4_000_000_000u64, "n": n}));
        assert_eq!(verify(&tokens, &token).await, Ok(()));
    }
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(waiting.await.unwrap(), Err(Outcome::Kid), "the load is bounded");
    follow.abort();
}

#[tokio::test]
async fn tokens_of_the_old_secret_end_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, [SECRET, b"\n"].concat()).unwrap();
    let tokens = tokens(KeySource::SecretFile(path.clone()));
    let old = Signer::hs256().token(None, &claims());
    assert_eq!(
        verify(&tokens, &old).await,
        Err(Outcome::Unavailable),
        "there are no keys yet"
    );
    tokens.load_keys().await.unwrap();
    assert_eq!(verify(&tokens, &old).await, Ok(()));
    assert!(is_cached(&tokens, &old));
    std::fs::write(&path, [b'y'; 40]).unwrap();
    tokens.load_keys().await.unwrap();
    assert!(!is_cached(&tokens, &old));
    assert_eq!(verify(&tokens, &old).await, Err(Outcome::Signature));
    assert_eq!(
        verify(&tokens, &Signer::Hs256(vec![b'y'; 40]).token(None, &claims())).await,
        Ok(())
    );
    std::fs::write(&path, "short").unwrap();
    assert!(tokens.load_keys().await.is_err());
    std::fs::remove_file(&path).unwrap();
    let error = tokens.load_keys().await.unwrap_err().to_string();
    assert!(error.contains("secret"), "{error}");
    assert_eq!(
        verify(&tokens, &Signer::Hs256(vec![b'y'; 40]).token(None, &claims())).await,
        Ok(())
    );
}

#[tokio::test]
async fn a_file_may_hold_secrets_and_is_the_same_until_its_content_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let signer = Signer::hs256();
    let write = |keys: &[Value]| std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();
    write(&[signer.jwk("a")]);
    let tokens = tokens(KeySource::File(path.clone()));
    tokens.load_keys().await.unwrap();
    let token = signer.token(Some("a"), &claims());
    assert_eq!(verify(&tokens, &token).await, Ok(()));
    write(&[signer.jwk("a")]);
    tokens.load_keys().await.unwrap();
    assert!(is_cached(&tokens, &token), "the content is the same");
    write(&[signer.jwk("a"), Signer::eddsa().jwk("b")]);
    tokens.load_keys().await.unwrap();
    assert!(!is_cached(&tokens, &token));
}

#[tokio::test]
async fn a_cached_token_ends_at_its_time() {
    let tokens = tokens(KeySource::Secret(String::from_utf8(SECRET.to_vec()).unwrap().into()));
    tokens.load_keys().await.unwrap();
    let now = Now::read();
    let token = Signer::hs256().token(None, &json!({"exp": now.unix + 60}));
    assert_eq!(verify(&tokens, &token).await, Ok(()));
    let later = |seconds| Now {
        unix: now.unix + seconds,
        ..now
    };
    assert!(matches!(tokens.look_up(&token, later(89)), KnownToken::Valid(_)));
    assert!(matches!(
        tokens.look_up(&token, later(90)),
        KnownToken::Refused(Outcome::Expired)
    ));
}

fn config(source: KeySource, change: impl FnOnce(&mut ClaimRules)) -> TokenConfig {
    let mut rules = ClaimRules {
        leeway: 30,
        ..ClaimRules::default()
    };
    change(&mut rules);
    TokenConfig { source, rules }
}

#[tokio::test]
async fn other_rules_hold_at_once_also_for_tokens_that_are_known() {
    let source = KeySource::Secret(String::from_utf8(SECRET.to_vec()).unwrap().into());
    let tokens = Tokens::new(config(source.clone(), |_| {}));
    tokens.load_keys().await.unwrap();
    let token = Signer::hs256().token(None, &claims());
    assert_eq!(verify(&tokens, &token).await, Ok(()));
    let prepared = tokens.prepare(config(source.clone(), |_| {})).await.unwrap();
    assert!(!tokens.adopt(prepared));
    assert!(is_cached(&tokens, &token), "nothing is new");
    let stricter = config(source.clone(), |rules| rules.issuer = Some("https://issuer".into()));
    let prepared = tokens.prepare(stricter).await.unwrap();
    assert!(is_cached(&tokens, &token), "nothing changes before they are adopted");
    assert!(!tokens.adopt(prepared), "the keys are the same");
    assert_eq!(verify(&tokens, &token).await, Err(Outcome::Issuer));
    let prepared = tokens.prepare(config(source, |_| {})).await.unwrap();
    tokens.adopt(prepared);
    assert_eq!(verify(&tokens, &token).await, Ok(()));
}

#[tokio::test]
async fn another_source_replaces_the_keys_and_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    let (old, new) = (Signer::hs256(), Signer::es256());
    std::fs::write(&path, SECRET).unwrap();
    let tokens = Arc::new(tokens(KeySource::SecretFile(path)));
    tokens.load_keys().await.unwrap();
    let follow = tokens.clone();
    let follow = tokio::spawn(async move { follow.follow_keys().await });
    let issuer = Issuer::start(&[new.jwk("new")]).await;
    let prepared = tokens.prepare(config(issuer.source(), |_| {})).await.unwrap();
    assert_eq!(verify(&tokens, &old.token(None, &claims())).await, Ok(()));
    assert!(tokens.adopt(prepared));
    assert_eq!(verify(&tokens, &new.token(Some("new"), &claims())).await, Ok(()));
    assert!(verify(&tokens, &old.token(None, &claims())).await.is_err());
    // The task follows the issuer now, and no longer the file.
    let newer = Signer::es256();
    issuer.publish(&[newer.jwk("newer")]);
    assert_eq!(verify(&tokens, &newer.token(Some("newer"), &claims())).await, Ok(()));
    follow.abort();
}

#[tokio::test]
async fn an_issuer_that_is_away_refuses_its_first_use_and_no_later_one() {
    let signer = Signer::es256();
    let issuer = Issuer::start(&[signer.jwk("a")]).await;
    let tokens = issuer.tokens();
    tokens.load_keys().await.unwrap();
    let refused = || Behaviour::Answer {
        status: "500 Internal Server Error",
        body: String::new(),
    };
    issuer.set(refused());
    let prepared = tokens
        .prepare(config(issuer.source(), |rules| rules.leeway = 60))
        .await
        .unwrap();
    tokens.adopt(prepared);
    assert_eq!(verify(&tokens, &signer.token(Some("a"), &claims())).await, Ok(()));
    let other = Issuer::start(&[signer.jwk("b")]).await;
    other.set(refused());
    assert!(tokens.prepare(config(other.source(), |_| {})).await.is_err());
    assert_eq!(verify(&tokens, &signer.token(Some("a"), &claims())).await, Ok(()));
}
