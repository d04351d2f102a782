//! A wrong body of any kind is answered with a clear 4xx, and a right one reaches its handler.

use axum::Router;
use axum::routing::post;
use cenote::http::{HttpConfig, Json, between, characters, entries, no_nul};
use serde::Deserialize;

use crate::support::{Server, start};

#[derive(Deserialize, garde::Validate)]
struct Entry {
    #[garde(custom(characters(1, 8)), custom(no_nul))]
    key: String,
    #[serde(default)]
    #[garde(skip)]
    value: String,
    #[serde(default)]
    #[garde(custom(between(0, 10)))]
    count: u8,
    #[serde(default)]
    #[garde(custom(entries(0, 2)), dive)]
    more: Vec<Nested>,
}

#[derive(Deserialize, garde::Validate)]
struct Nested {
    #[garde(email)]
    email: String,
}

fn server() -> Server {
    let echo = async |Json(entry): Json<Entry>| {
        let emails: Vec<_> = entry.more.iter().map(|nested| nested.email.as_str()).collect();
        format!("{}={}*{}{}", entry.key, entry.value, entry.count, emails.join(","))
    };
    let config = HttpConfig {
        max_body: 4096,
        ..HttpConfig::default()
    };
    start(Router::new().route("/", post(echo)), config)
}

#[tokio::test]
async fn a_right_body_is_accepted_in_one_piece_and_in_many() {
    let server = server();
    assert_eq!(
        server.post("/", r#" {"key":"a","value":"é","x":[{}]} "#).await.text(),
        "a=é*0"
    );
    let mut client = server.client().await;
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/vnd.x+JSON; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for piece in [r#"{"ke"#, r#"y":"#, r#""b"}"#] {
        client.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        tokio::task::yield_now().await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "b=*0");
}

#[tokio::test]
async fn a_body_that_is_not_json_is_400_with_the_position_and_without_its_text() {
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
        // A struct does not begin with `[`, so the wrong type is noticed before the depth.
        assert!(matches!(answer.status, 400 | 422), "{text}: {}", answer.text());
        assert!(!answer.text().contains("hush"), "{text}: {}", answer.text());
        let detail = answer.problem()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(place), "{text}: {detail}");
        assert_eq!(answer.problem()["type"], "urn:cenote:problem:malformed-json");
    }
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_422_and_names_the_field() {
    let server = server();
    let long = format!(r#"{{"key":"a","more":[{{"email":{{"{}":1}}}}]}}"#, "hush".repeat(200));
    let deep = "[".repeat(2000);
    let cases = [
        ("{}", "key", "is required"),
        (r#"{"key":7}"#, "key", "must be a string"),
        (r#"{"key":null}"#, "key", "must be a string"),
        (
            r#"{"key":"a","count":"hush, expected x"}"#,
            "count",
            "must be a whole number, not below 0",
        ),
        (
            r#"{"key":"a","count":-1}"#,
            "count",
            "must be a whole number, not below 0",
        ),
        (
            r#"{"key":"a","count":99999999999999999999999}"#,
            "count",
            "must be a whole number, not below 0",
        ),
        (
            r#"{"key":"a","count":1.5}"#,
            "count",
            "must be a whole number, not below 0",
        ),
        (r#"{"key":"a","key":"hush"}"#, "key", "is given twice"),
        (
            r#"{"key":"a","more":[{"email":"a@b.de"},{}]}"#,
            "more[1].email",
            "is required",
        ),
        (r#"{"key":"a","more":"hush"}"#, "more", "must be a list"),
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
        // Well-formed, but no type can store it.
        (r#"{"key":"a\u0000b"}"#, "key", "must not contain the NUL character"),
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
async fn all_errors_of_a_body_are_named_at_once() {
    let server = server();
    let two = r#"{"key":7,"value":[],"count":"hush","more":[{},{"email":1},{"email":"hush"},{"email":"a@b.de"}]}"#;
    let answer = server.post("/", two).await;
    let mut fields = answer.fields();
    fields.sort_unstable();
    let all = [
        "count",
        "key",
        "more",
        "more[0].email",
        "more[1].email",
        "more[2].email",
        "value",
    ];
    assert_eq!(fields, all, "{}", answer.text());
    assert!(!answer.text().contains("hush"), "{}", answer.text());
    // A field that is given twice or not known hides no other error.
    let answer = server
        .post("/", r#"{"key":"a","key":"b","count":"x","unknown":[{}]}"#)
        .await;
    assert_eq!(answer.fields(), ["key", "count"]);
    // A syntax error after other errors is a syntax error.
    let answer = server.post("/", r#"{"key":7,"value":hush}"#).await;
    assert_eq!(
        (answer.status, &answer.problem()["type"]),
        (400, &"urn:cenote:problem:malformed-json".into())
    );
    // The size of the answer is bounded, with any number of errors.
    let many = format!(r#"{{"key":"a","more":[{}1]}}"#, "{},".repeat(1000));
    let answer = server.post("/", many).await;
    assert_eq!((answer.status, answer.fields().len()), (422, 32), "{}", answer.text());
}

#[tokio::test]
async fn the_detail_of_a_broken_rule_names_what_it_is_about() {
    let server = server();
    for (body, detail) in [
        (r#"{"key":""}"#, "must have 1 to 8 characters"),
        (r#"{"key":"123456789"}"#, "must have 1 to 8 characters"),
        (r#"{"key":"a","count":11}"#, "must be 0 to 10"),
        (
            r#"{"key":"a","more":[{"email":"a@b.de"},{"email":"a@b.de"},{"email":"a@b.de"}]}"#,
            "must have at most 2 entries",
        ),
    ] {
        let answer = server.post("/", body).await;
        assert_eq!(answer.problem()["errors"][0]["detail"], detail, "{body}");
    }
}

/// A body of two bytes with these headers.
async fn say(server: &Server, headers: &str) -> crate::support::Answer {
    let request = format!("POST / HTTP/1.1\r\nhost: x\r\n{headers}content-length: 11\r\n\r\n{{\"key\":\"a\"}}");
    server.ask(request).await
}

#[tokio::test]
async fn a_body_declared_as_another_type_is_415_with_the_right_type() {
    let server = server();
    for kind in [
        "text/plain",
        "text/plain;charset=utf-8",
        "json",
        "text/json",
        "application/jsonx",
        "application/json+xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "\u{e9}",
        "application/",
        "/json",
        "application/json, application/json",
        "application/json; charset=utf-16",
        "application/json; charset=\"latin1\"",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json;charset=",
        "*/*",
    ] {
        let answer = say(&server, &format!("content-type: {kind}\r\n")).await;
        assert_eq!(answer.status, 415, "{kind}");
        assert_eq!(answer.headers["accept"], "application/json", "{kind}");
        answer.problem();
    }
    let twice = "content-type: application/json\r\ncontent-type: application/json\r\n";
    assert_eq!(say(&server, twice).await.status, 415);
    let form = say(&server, "content-type: application/x-www-form-urlencoded\r\n").await;
    assert!(
        form.text().contains("-H 'content-type: application/json'"),
        "{}",
        form.text()
    );
    for kind in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
        "application/json; CharSet=utf8",
        "application/json; charset=us-ascii",
        "application/json; profile=\"x\"",
        "application/json;",
        "application/vnd.api+json",
        "application/problem+JSON ; charset=utf-8",
    ] {
        let answer = say(&server, &format!("content-type: {kind}\r\n")).await;
        assert_eq!(answer.status, 200, "{kind}");
    }
}

#[tokio::test]
async fn a_body_without_a_declared_type_is_json_unless_a_page_of_another_site_sends_it() {
    let server = server();
    for kind in ["", "content-type:\r\n", "content-type:  \r\n"] {
        for from in [
            "",
            "sec-fetch-site: same-origin\r\n",
            "sec-fetch-site: none\r\n",
            "origin: http://x\r\n",
            "origin: https://x\r\n",
            "sec-fetch-site: same-origin\r\norigin: http://renamed\r\n",
        ] {
            let answer = say(&server, &format!("{kind}{from}")).await;
            assert_eq!((answer.status, answer.text()), (200, "a=*0"), "{kind}{from}");
        }
        for from in [
            "sec-fetch-site: cross-site\r\n",
            "sec-fetch-site: same-site\r\n",
            "sec-fetch-site: Whatever\r\n",
            "sec-fetch-site:\r\n",
            "sec-fetch-site: none\r\nsec-fetch-site: cross-site\r\n",
            "origin: http://y\r\n",
            "origin: null\r\n",
            "origin: http://x:81\r\n",
        ] {
            let answer = say(&server, &format!("{kind}{from}")).await;
            assert_eq!(answer.status, 415, "{kind}{from}");
        }
    }
    // A browser may send JSON to another site only after a preflight request.
    let said = "content-type: application/json\r\nsec-fetch-site: cross-site\r\norigin: http://y\r\n";
    assert_eq!(say(&server, said).await.status, 200);
    let nothing = server.ask("POST / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(
        (nothing.status, &nothing.problem()["detail"]),
        (400, &"the body is empty".into())
    );
}

#[tokio::test]
async fn a_compressed_body_is_415_with_the_accepted_encodings() {
    let server = server();
    for coding in [
        "gzip",
        "deflate",
        "br",
        "zstd",
        "x",
        "identity, gzip",
        "GZIP",
        "gzip\r\ncontent-encoding: identity",
    ] {
        let headers = format!("content-type: application/json\r\ncontent-encoding: {coding}\r\n");
        let answer = say(&server, &headers).await;
        assert_eq!(
            (answer.status, &*answer.headers["accept-encoding"]),
            (415, "identity"),
            "{coding}"
        );
        answer.problem();
    }
    for coding in ["identity", "Identity", "", "identity, identity"] {
        let headers = format!("content-type: application/json\r\ncontent-encoding: {coding}\r\n");
        assert_eq!(say(&server, &headers).await.status, 200, "{coding}");
    }
}

#[tokio::test]
async fn a_body_announced_too_long_is_413_before_it_is_sent() {
    let server = server();
    let mut client = server.client().await;
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 4097\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.problem()["limit_bytes"]), (413, &4096.into()));
    assert_eq!(answer.headers["connection"], "close");
}

#[tokio::test]
async fn a_body_that_turns_out_too_long_is_413() {
    let mut client = server().client().await;
    client
        .send("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    client.send(format!("1001\r\n{}\r\n", " ".repeat(4097))).await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn a_peer_busy_sending_a_long_body_still_gets_its_413() {
    const SIZE: usize = 16 * 1024 * 1024;
    let server = server();
    let mut client = server.client().await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {SIZE}\r\n\r\n"
        ))
        .await;
    client.send(vec![b' '; SIZE]).await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn a_body_framed_wrongly_is_400() {
    let mut client = server().client().await;
    client
        .send(
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        )
        .await;
    assert_eq!(client.answer().await.status, 400);
}
