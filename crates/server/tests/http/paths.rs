//! Keys and parameters in the target of a request.

use axum::Router;
use axum::routing::{get, post};
use cenote::http::{HttpConfig, Key, Number, Path, Query, between, number};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::support::{Server, get as get_request, start};

#[derive(Deserialize, garde::Validate)]
struct Page {
    #[serde(default, deserialize_with = "number")]
    #[garde(inner(custom(between(1, 1000))))]
    limit: Option<u32>,
    #[serde(default, deserialize_with = "number")]
    #[garde(skip)]
    after: Option<i64>,
}

fn server() -> Server {
    let read = async |Key(key): Key| format!("key:{key}");
    let router = Router::new()
        .route("/read/{*key}", get(read))
        .route("/read/", get(read))
        .route("/read", post(async || "many"))
        .route(
            "/users/{id}",
            get(async |Path(Number(id)): Path<Number<i64>>| id.to_string()),
        )
        .route(
            "/pair/{a}/{b}",
            get(async |Path((a, b)): Path<(u8, u8)>| format!("{a} {b}")),
        )
        .route(
            "/users/",
            get(async |Query(page): Query<Page>| format!("{:?} {:?}", page.limit, page.after)),
        );
    start(router, HttpConfig::default())
}

#[tokio::test]
async fn any_key_reaches_the_handler_as_it_was_encoded() {
    let server = server();
    let mut client = server.client().await;
    let keys = [
        "a",
        "a/b",
        "/a",
        "//",
        "a//b",
        "a/",
        "/",
        ".",
        "..",
        "a/../b",
        "./a",
        "%",
        "%2F",
        "%25",
        "a b",
        " ",
        "+",
        "?",
        "#",
        "a?b=c#d",
        "🦀/é",
        "{key}",
        "{*key}",
        "\\",
        "\"",
        "\u{1}\r\n",
        ";a=b",
        ":",
        "*",
        "~",
        "\u{feff}",
        "",
    ];
    for key in keys {
        // Once with everything encoded, once with slashes and dots as they are.
        let full = utf8_percent_encode(key, NON_ALPHANUMERIC).to_string();
        let bare = full.replace("%2F", "/").replace("%2E", ".");
        for path in [full, bare] {
            client.send(get_request(&format!("/read/{path}"))).await;
            assert_eq!(client.answer().await.text(), format!("key:{key}"), "{path}");
        }
    }
}

#[tokio::test]
async fn a_key_of_a_whole_url_is_found_in_the_absolute_form_too() {
    let answer = server().ask(get_request("http://x/read/http://y/z")).await;
    assert_eq!(answer.text(), "key:http://y/z");
}

#[tokio::test]
async fn a_key_that_is_not_utf8_is_400() {
    let server = server();
    // A lone continuation byte, an over-long form, a surrogate, a number beyond the last character.
    for path in [
        "/read/%ff",
        "/read/%c0%af",
        "/read/%ed%a0%80",
        "/read/%f4%90%80%80",
        "/users/%ff",
    ] {
        let answer = server.ask(get_request(path)).await;
        assert_eq!(answer.status, 400, "{path}");
        answer.problem();
    }
}

#[tokio::test]
async fn a_key_with_nul_is_422() {
    let answer = server().ask(get_request("/read/a%00b")).await;
    assert_eq!((answer.status, answer.fields()), (422, vec!["key".to_owned()]));
}

#[tokio::test]
async fn a_percent_sign_that_encodes_nothing_stays() {
    assert_eq!(server().ask(get_request("/read/100%&%zz")).await.text(), "key:100%&%zz");
}

#[tokio::test]
async fn a_path_variable_of_the_wrong_type_is_422_naming_it() {
    let server = server();
    for (path, id) in [
        ("/users/7", "7"),
        ("/users/%37", "7"),
        ("/users/007", "7"),
        ("/users/-7", "-7"),
    ] {
        assert_eq!(server.ask(get_request(path)).await.text(), id);
    }
    for (path, field) in [
        ("/users/+7", "id"),
        ("/users/%2B7", "id"),
        ("/users/%207", "id"),
        ("/users/-", "id"),
        ("/users/%zz", "id"),
        ("/users/7%00", "id"),
        ("/users/\u{663}", "id"),
        ("/users/abc", "id"),
        ("/users/1.5", "id"),
        ("/users/99999999999999999999", "id"),
        ("/pair/1/x", "b"),
    ] {
        let answer = server.ask(get_request(path)).await;
        assert_eq!(
            (answer.status, answer.fields()),
            (422, vec![field.to_owned()]),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_parameter_that_does_not_fit_is_422_naming_it() {
    let server = server();
    assert_eq!(server.ask(get_request("/users/")).await.text(), "None None");
    assert_eq!(
        server.ask(get_request("/users/?after=-5&x=y")).await.text(),
        "None Some(-5)"
    );
    for query in [
        "limit=5&after=07",
        "limit=005",
        "%6cimit=5",
        "limit=5&",
        "&limit=5&&",
        "limit=%35",
        "x=%zz&limit=5",
    ] {
        let answer = server.ask(get_request(&format!("/users/?{query}"))).await;
        assert!(answer.text().starts_with("Some(5)"), "{query}: {}", answer.text());
    }
    for (query, field) in [
        ("limit=+5", "limit"),
        ("limit=%2B5", "limit"),
        ("limit=5%20", "limit"),
        ("limit=%zz", "limit"),
        ("limit=-5", "limit"),
        ("limit=4294967296", "limit"),
        ("limit", "limit"),
        ("limit=5&%6cimit=5", "limit"),
        ("limit=abc", "limit"),
        ("limit=", "limit"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=5&limit=6", "limit"),
        ("after=1e3", "after"),
        ("after=%00", "after"),
        ("limit=%ff", "limit"),
    ] {
        let answer = server.ask(get_request(&format!("/users/?{query}"))).await;
        assert_eq!(
            (answer.status, answer.fields()),
            (422, vec![field.to_owned()]),
            "{query}"
        );
    }
}

#[tokio::test]
async fn every_parameter_that_does_not_fit_is_named() {
    let server = server();
    for (query, fields) in [
        ("limit=abc&after=x", &["limit", "after"][..]),
        ("after=x&limit=0", &["after", "limit"]),
        ("limit=1&limit=2&after=", &["limit", "after"]),
    ] {
        let answer = server.ask(get_request(&format!("/users/?{query}"))).await;
        assert_eq!(answer.fields(), fields, "{query}");
    }
    let answer = server.ask(get_request("/users/?limit=1001")).await;
    assert_eq!(answer.problem()["errors"][0]["detail"], "must be 1 to 1000");
    let answer = server.ask(get_request("/users/?limit=x")).await;
    assert_eq!(answer.problem()["errors"][0]["detail"], "must be a whole number");
}
