//! The keys of tokens and their rules.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{Reloading, status};
use crate::support::tokens::{SECRET, in_seconds, token, token_with};

/// The JWK set of this secret.
fn jwks(secret: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let k = URL_SAFE_NO_PAD.encode(secret);
    json!({"keys": [{"kty": "oct", "alg": "HS256", "k": k}]}).to_string()
}

/// An issuer with this JWK set; its URL.
async fn issuer(document: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _request = stream.read(&mut [0; 1024]).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", document.len());
            let _sent = stream.write_all((head + &document).as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn the_keys_of_tokens_and_their_rules() {
    let base = "MEMORY_WARN=0\nMEMORY_CRITICAL=0\nAUTH=jwt\nRATE_LIMIT_AUTH_FAILURES=off\n";
    let it = Reloading::start(base, &format!("JWT_SECRET={SECRET}\n")).await;
    let header = json!({"alg": "HS256"});
    let other = "another secret of more than thirty-two bytes";
    let old = token_with("read", |_| {});
    let new = token(
        &header,
        &json!({"sub": "ada", "scope": "read", "exp": in_seconds(600)}),
        other,
    );
    let seen = async || {
        (
            status(&it.service, Some(&old)).await,
            status(&it.service, Some(&new)).await,
        )
    };
    assert_eq!(seen().await, (200, 401));
    it.set(&format!("JWT_SECRET={other}\n"), &["JWT_SECRET"]).await;
    assert_eq!(seen().await, (401, 200));
    it.service.write_file("jwks.json", &jwks(SECRET));
    it.set("JWT_JWKS_FILE=jwks.json\n", &["JWT_SECRET", "JWT_JWKS_FILE"])
        .await;
    assert_eq!(seen().await, (200, 401));
    // Its content alone, long before it would be noticed.
    it.service.write_file("jwks.json", &jwks(other));
    it.set("JWT_JWKS_FILE=jwks.json\n", &["JWT_JWKS_FILE"]).await;
    assert_eq!(seen().await, (401, 200));

    let with = async |settings: &str, names: &[&str], change: fn(&mut Value)| {
        it.set(&format!("JWT_SECRET={SECRET}\n{settings}"), names).await;
        status(&it.service, Some(&token_with("read", change))).await
    };
    assert_eq!(
        with("JWT_ISSUER=https://issuer.example\n", &["JWT_ISSUER"], |_| {}).await,
        200
    );
    assert_eq!(
        with("JWT_ISSUER=https://other.example\n", &["JWT_ISSUER"], |_| {}).await,
        401
    );
    assert_eq!(
        with("JWT_AUDIENCE=other\n", &["JWT_AUDIENCE", "JWT_ISSUER"], |_| {}).await,
        401
    );
    assert_eq!(
        with("JWT_AUDIENCE=other,cenote\n", &["JWT_AUDIENCE"], |_| {}).await,
        200
    );
    let late: fn(&mut Value) = |it| it["exp"] = json!(in_seconds(-60));
    assert_eq!(with("", &["JWT_AUDIENCE"], late).await, 401);
    assert_eq!(with("JWT_LEEWAY=300\n", &["JWT_LEEWAY"], late).await, 200);
    let elsewhere: fn(&mut Value) = |it| (it["scope"], it["roles"]) = (json!(null), json!(["read"]));
    assert_eq!(with("", &["JWT_LEEWAY"], elsewhere).await, 403);
    assert_eq!(with("JWT_SCOPES=roles\n", &["JWT_SCOPES"], elsewhere).await, 200);

    let public = json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "alg": "EdDSA",
    }]});
    let url = issuer(public.to_string()).await;
    it.set(&format!("JWT_JWKS_URL={url}\n"), &["JWT_JWKS_URL"]).await;
    assert_eq!(seen().await, (401, 401), "the issuer has another key");
    let reloaded = it.service.log();
    assert!(!reloaded.contains(SECRET) && !reloaded.contains(other));
}
