//! Bodies of every kind of wrong get a clear 4xx, and right ones get through.

use axum::Router;
use axum::routing::post;
use cenote::http::{HttpConfig, Json, no_nul};
use serde::Deserialize;

use crate::support::{Server, start};

#[derive(Deserialize, garde::Validate)]
struct Entry {
    #[garde(length(chars, min = 1, max = 8), custom(no_nul))]
    key: String,
    #[serde(default)]
    #[garde(skip)]
    value: String,
    #[serde(default)]
    #[garde(range(max = 10))]
    count: u8,
    #[serde(default)]
    #[garde(dive)]
    more: Vec<Nested>,
}

#[derive(Deserialize, garde::Validate)]
struct Nested {
    #[garde(email)]
    email: String,
}

fn server() -> Server {
    let echo = async |Json(entry): Json<Entry>| {
        let emails: Vec<_> = entry
            .more
            .iter()
            .map(|nested| nested.email.as_str())
            .collect();
        format!(
            "{}={}*{}{}",
            entry.key,
            entry.value,
            entry.count,
            emails.join(",")
        )
    };
    let config = HttpConfig {
        max_body: 4096,
        ..HttpConfig::default()
    };
    start(Router::new().route("/", post(echo)), config)
}

#[tokio::test]
async fn a_right_body_gets_through_in_one_piece_or_many() {
    let server = server();
    assert_eq!(
        server
            .post("/", r#" {"key":"a","value":"é","x":[{}]} "#)
            .await
            .text(),
        "a=é*0"
    );
    let mut client = server.client().await;
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/vnd.x+JSON; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for piece in [r#"{"ke"#, r#"y":"#, r#""b"}"#] {
        client
            .send(format!("{:x}\r\n{piece}\r\n", piece.len()))
            .await;
        tokio::task::yield_now().await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "b=*0");
}

#[tokio::test]
async fn what_is_not_json_is_400_with_its_place_and_without_its_text() {
    let server = server();
    let deep = "[".repeat(2000);
    let nested = format!(r#"{{"x":{deep}"#);
    let cases: [(&[u8], &str); 14] = [
        (b"", "the body is empty"),
        (b" \n ", "the body is empty"),
        (b"{\"key\":\"hush\",}", "line 1, column 15"),
        (b"{\n  \"key\": hush}", "line 2, column 10"),
        (b"{\"key\":\"hush", "EOF"),
        (b"{\"key\":\"hush\"} x", "trailing characters"),
        (b"hush", "line 1, column 1"),
        (b"\xef\xbb\xbf{\"key\":\"hush\"}", "byte order mark"),
        (br#"{"key":"\ud800"}"#, "line 1"),
        (br#"{"key":"\udc00hush"}"#, "line 1"),
        (b"{\"key\":\"hu\0sh\"}", "control character"),
        (b"{\"key\":\"\xff\xfehush\"}", "unicode"),
        (br#"{"key":"a","count":1e999}"#, "number out of range"),
        (nested.as_bytes(), "line 1"),
    ];
    for (body, place) in cases {
        let answer = server.post("/", body).await;
        let text = String::from_utf8_lossy(body);
        // A struct cannot begin with `[`: there the kind is noticed before the depth.
        assert!(
            matches!(answer.status, 400 | 422),
            "{text}: {}",
            answer.text()
        );
        assert!(!answer.text().contains("hush"), "{text}: {}", answer.text());
        let detail = answer.problem()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(place), "{text}: {detail}");
        assert_eq!(
            answer.problem()["type"],
            "urn:cenote:problem:malformed-json"
        );
    }
}

#[tokio::test]
async fn what_does_not_fit_is_422_naming_the_field() {
    let server = server();
    let long = format!(
        r#"{{"key":"a","more":[{{"email":{{"{}":1}}}}]}}"#,
        "hush".repeat(200)
    );
    let deep = "[".repeat(2000);
    let cases = [
        ("{}", "key", "is required"),
        (r#"{"key":7}"#, "key", "must be a string"),
        (r#"{"key":null}"#, "key", "must be a string"),
        (
            r#"{"key":"a","count":"hush, expected x"}"#,
            "count",
            "must be u8",
        ),
        (r#"{"key":"a","count":-1}"#, "count", "must be u8"),
        (
            r#"{"key":"a","count":99999999999999999999999}"#,
            "count",
            "must be u8",
        ),
        (r#"{"key":"a","count":1.5}"#, "count", "must be u8"),
        (r#"{"key":"a","key":"hush"}"#, "key", "is given twice"),
        (
            r#"{"key":"a","more":[{"email":"a@b.de"},{}]}"#,
            "more[1].email",
            "is required",
        ),
        (r#"{"key":"a","more":"hush"}"#, "more", "must be a sequence"),
        (&long, "more[0].email", "must be a string"),
        (
            r#"{"key":"a","more":[{"email":"a@b.de","email":"hush"}]}"#,
            "more[0].email",
            "is given twice",
        ),
        (r#"["a","hush"]"#, "", "must be an object"),
        (&deep, "", "must be an object"),
        (r#""hush""#, "", "must be an object"),
        ("null", "", "must be an object"),
        // Well-formed, but nothing can store it.
        (
            r#"{"key":"a\u0000b"}"#,
            "key",
            "must not contain the NUL character",
        ),
    ];
    for (body, field, detail) in cases {
        let answer = server.post("/", body).await;
        assert_eq!(answer.status, 422, "{body}: {}", answer.text());
        assert_eq!(answer.fields(), [field], "{body}");
        assert_eq!(answer.problem()["errors"][0]["detail"], detail, "{body}");
        assert!(!answer.text().contains("hush"), "{body}: {}", answer.text());
    }
}

#[tokio::test]
async fn every_rule_that_is_broken_is_named() {
    let answer = server()
        .post(
            "/",
            r#"{"key":"","count":11,"more":[{"email":"a@b.de"},{"email":"hush"}]}"#,
        )
        .await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.fields(), ["count", "key", "more[1].email"]);
    assert!(!answer.text().contains("hush"));
}

#[tokio::test]
async fn a_body_not_said_to_be_json_is_415() {
    let server = server();
    for kind in [
        "",
        "content-type: text/plain\r\n",
        "content-type: json\r\n",
        "content-type: text/json\r\n",
        "content-type: application/jsonx\r\n",
        "content-type: \u{e9}\r\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nhost: x\r\n{kind}content-length: 2\r\n\r\n{{}}");
        let answer = server.ask(request).await;
        assert_eq!(answer.status, 415, "{kind}");
        answer.problem();
    }
    let nothing = server.ask("POST / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(
        (nothing.status, &nothing.problem()["detail"]),
        (400, &"the body is empty".into())
    );
}

#[tokio::test]
async fn a_body_announced_too_long_is_413_before_it_is_sent() {
    let server = server();
    let mut client = server.client().await;
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 4097\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, &answer.problem()["limit_bytes"]),
        (413, &4096.into())
    );
    assert_eq!(answer.headers["connection"], "close");
}

#[tokio::test]
async fn a_body_that_turns_out_too_long_is_413() {
    let mut client = server().client().await;
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n").await;
    client
        .send(format!("1001\r\n{}\r\n", " ".repeat(4097)))
        .await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn a_peer_busy_sending_a_long_body_still_gets_its_413() {
    const SIZE: usize = 16 * 1024 * 1024;
    let server = server();
    let mut client = server.client().await;
    client.send(format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {SIZE}\r\n\r\n")).await;
    client.send(vec![b' '; SIZE]).await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn a_body_framed_wrongly_is_400() {
    let mut client = server().client().await;
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").await;
    assert_eq!(client.answer().await.status, 400);
}
