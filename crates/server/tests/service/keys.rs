//! Keys: `/write` and `/read`.

use std::{collections::HashSet, sync::Arc};

use serde_json::json;

use crate::support::{Connection, Service, encoded};

#[tokio::test]
async fn a_write_is_answered_with_its_version_and_read_back() {
    let service = Service::start(&[]).await;
    let written = service
        .post("/write", &json!({"key": "greeting", "value": "hello"}))
        .await
        .json(200);
    assert_eq!(written["status"], "ok");
    assert_eq!(written["key"], "greeting");
    let version = written["version"].as_i64().unwrap();

    let answer = service.get("/read/greeting").await;
    let read = answer.json(200);
    assert_eq!(read["key"], "greeting");
    assert_eq!(read["value"], "hello");
    assert_eq!(read["version"], version);
    assert!(read["from_cache"].is_boolean());
    assert_eq!(answer.headers["etag"], format!("\"{version}\""));
}

#[tokio::test]
async fn a_key_that_was_never_written_is_404() {
    let service = Service::start(&[]).await;
    service.get("/read/nothing").await.problem(404, "not-found");
    let deleted = service.delete("/read/nothing").await;
    deleted.problem(404, "not-found");
}

#[tokio::test]
async fn versions_grow_with_every_write_and_go_on_after_a_delete() {
    let service = Service::start(&[]).await;
    let mut last = 0;
    for round in 0..4 {
        for n in 0..3 {
            let value = format!("{round}.{n}");
            let version = service.write("key", &value).await;
            assert!(version > last, "{version} after {last}");
            last = version;
            let read = service.read("key").await.json(200);
            assert_eq!((&read["value"], &read["version"]), (&json!(value), &json!(version)));
        }
        let deleted = service.delete("/read/key").await;
        assert_eq!((deleted.status, deleted.body.len()), (204, 0));
        assert_eq!(deleted.headers["etag"], format!("\"{}\"", last + 1));
        service.read("key").await.problem(404, "not-found");
        let again = service.delete("/read/key").await;
        again.problem(404, "not-found");
    }
}

#[tokio::test]
async fn versions_go_on_after_a_restart_of_the_service() {
    let first = Service::start(&[]).await;
    first.write("key", "one").await;
    let before = first.write("key", "two").await;
    assert_eq!(first.delete("/read/key").await.status, 204);
    let database = first.database.clone();
    drop(first);
    let second = Service::start_with(&database, &[]).await;
    second.read("key").await.problem(404, "not-found");
    assert!(second.write("key", "three").await > before);
}

#[tokio::test]
async fn three_hundred_writes_at_once_have_three_hundred_versions_and_the_newest_is_served() {
    let service = Arc::new(Service::start(&[]).await);
    let writes = (0..300).map(|n| {
        let service = service.clone();
        tokio::spawn(async move { (service.write("hot", &n.to_string()).await, n) })
    });
    let mut written = Vec::new();
    for write in writes.collect::<Vec<_>>() {
        written.push(write.await.unwrap());
    }
    let versions: HashSet<_> = written.iter().map(|(version, _)| version).collect();
    assert_eq!(versions.len(), 300);
    let (newest, value) = written.iter().max().unwrap();
    for _ in 0..3 {
        let read = service.read("hot").await.json(200);
        assert_eq!(read["version"], *newest);
        assert_eq!(read["value"], value.to_string());
    }
}

#[tokio::test]
async fn a_client_never_reads_an_older_value_than_its_acknowledged_write() {
    let service = Arc::new(Service::start(&[]).await);
    let clients = (0..8).map(|client| {
        let service = service.clone();
        tokio::spawn(async move {
            let mut connection = service.connect().await;
            for n in 0..40 {
                let body = json!({"key": "shared", "value": format!("{client}.{n}")});
                let written = connection.post("/write", &body).await.unwrap().json(200);
                let read = connection.ask("GET", "/read/shared", &[], "").await;
                let read = read.unwrap().json(200);
                let of = |json: &serde_json::Value| json["version"].as_i64().unwrap();
                assert!(of(&read) >= of(&written), "{read} after {written}");
                if of(&read) == of(&written) {
                    assert_eq!(read["value"], body["value"]);
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn if_none_match_with_the_current_version_is_304_and_with_others_200() {
    let service = Service::start(&[]).await;
    let old = service.get_tag("key", "one").await;
    let tag = service.get_tag("key", "two").await;
    assert_ne!(old, tag);
    let ask = async |known: &str| {
        let headers = [("if-none-match", known)];
        service.ask("GET", "/read/key", &headers, "").await
    };
    for known in [
        tag.clone(),
        format!("W/{tag}"),
        format!("{old}, {tag}"),
        format!("\"x\",W/{tag} , {old}"),
        "*".to_owned(),
    ] {
        let answer = ask(&known).await;
        assert_eq!(answer.status, 304, "{known}");
        assert!(answer.body.is_empty());
        assert_eq!(answer.headers["etag"], tag);
    }
    for known in [old.clone(), format!("W/{old}"), "\"x\"".into()] {
        let read = ask(&known).await.json(200);
        assert_eq!(read["value"], "two", "{known}");
    }
    assert_eq!(service.delete("/read/key").await.status, 204);
    ask("*").await.problem(404, "not-found");
}

impl Service {
    async fn get_tag(&self, key: &str, value: &str) -> String {
        self.write(key, value).await;
        self.read(key).await.headers["etag"].clone()
    }
}

#[tokio::test]
async fn head_tells_what_get_would_without_the_body() {
    let service = Service::start(&[]).await;
    service.write("key", "value").await;
    // From now on the value is cached, and the body says so.
    service.get("/read/key").await.json(200);
    let get = service.get("/read/key").await;
    let mut connection = service.connect().await;
    for _ in 0..2 {
        let head = connection.ask("HEAD", "/read/key", &[], "").await.unwrap();
        assert_eq!((head.status, head.body.len()), (200, 0));
        for name in ["etag", "content-type", "content-length"] {
            assert_eq!(head.headers[name], get.headers[name]);
        }
    }
    let absent = service.ask("HEAD", "/read/nothing", &[], "").await;
    assert_eq!((absent.status, absent.body.len()), (404, 0));
}

#[tokio::test]
async fn a_client_that_writes_and_deletes_by_turns_finds_each_in_its_order() {
    let service = Arc::new(Service::start(&[]).await);
    // Each client has its own key.
    let clients = (0..16).map(|client| {
        let service = service.clone();
        tokio::spawn(async move {
            let mut connection = service.connect().await;
            let key = format!("turns/{client}");
            let path = format!("/read/{}", encoded(&key));
            for n in 0..20 {
                let body = json!({"key": key, "value": n.to_string()});
                let written = connection.post("/write", &body).await.unwrap().json(200);
                assert_eq!(written["version"], 2 * n + 1, "every change is a version");
                let deleted = connection.ask("DELETE", &path, &[], "").await.unwrap();
                assert_eq!(deleted.status, 204);
                let read = connection.ask("GET", &path, &[], "").await.unwrap();
                assert_eq!(read.status, 404);
                let again = connection.ask("DELETE", &path, &[], "").await.unwrap();
                again.problem(404, "not-found");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_another_session_has_locked_holds_up_no_other_write() {
    let settings = [("COMMAND_TIMEOUT", "20"), ("DB_POOL_MAX", "4")];
    let service = Arc::new(Service::start(&settings).await);
    for key in ["locked/a", "locked/b", "locked/c"] {
        service.write(key, "one").await;
    }
    let session = service.database.session().await;
    session
        .run("BEGIN; UPDATE kv SET value = 'held' WHERE key LIKE 'locked/%'")
        .await;
    // More writes than there are connections wait for the locks.
    let waiting = (0..24).map(|n| {
        let service = service.clone();
        let key = ["locked/a", "locked/b", "locked/c"][n % 3];
        tokio::spawn(async move { service.write(key, &n.to_string()).await })
    });
    let waiting: Vec<_> = waiting.collect();
    session.sees_blocked(1).await;
    for n in 1..50 {
        assert_eq!(service.write("free", &n.to_string()).await, n);
    }
    assert!(waiting.iter().all(|write| !write.is_finished()));
    session.run("ROLLBACK").await;
    let mut versions = Vec::new();
    for write in waiting {
        versions.push(write.await.unwrap());
    }
    versions.sort_unstable();
    let dense = (2..10).flat_map(|version| [version; 3]);
    assert!(versions.into_iter().eq(dense));
}

const WEIRD: [&str; 22] = [
    "a/b/c",
    "/",
    "//",
    "a//b",
    "/leading",
    "trailing/",
    "..",
    ".",
    "a/../b",
    "../../etc/passwd",
    "with space",
    " ",
    "plus+sign",
    "100%",
    "%2F",
    "a?b=c&d#e",
    "quote\"back\\slash'",
    "tab\tnewline\r\n\u{7f}",
    "ключ/鍵/مفتاح",
    "👩‍👩‍👧‍👦",
    "e\u{301}",
    "null",
];

#[tokio::test]
async fn any_utf8_is_a_key_and_no_two_are_confused() {
    let service = Service::start(&[]).await;
    for (n, key) in WEIRD.iter().enumerate() {
        assert_eq!(service.write(key, &n.to_string()).await, 1, "{key:?}");
    }
    // The composed letter is another key than the letter with a combining accent.
    service.write("é", "composed").await;
    for (n, key) in WEIRD.iter().enumerate() {
        let read = service.read(key).await.json(200);
        assert_eq!(read["key"], *key);
        assert_eq!(read["value"], n.to_string(), "{key:?}");
    }
    let many = service.post("/read", &json!({ "keys": WEIRD })).await;
    assert_eq!(many.json(200)["missing"], json!([]));
    for key in WEIRD {
        let path = format!("/read/{}", encoded(key));
        assert_eq!(service.delete(&path).await.status, 204, "{key:?}");
        service.read(key).await.problem(404, "not-found");
    }
    let composed = service.read("é").await.json(200);
    assert_eq!(composed["value"], "composed");
}

#[tokio::test]
async fn slashes_and_dots_of_a_key_need_no_encoding_in_the_path() {
    let service = Service::start(&[]).await;
    for key in ["a/b/c", "a//b", "/leading", "trailing/", "..", "a/../b", "."] {
        service.write(key, key).await;
        let read = service.get(&format!("/read/{key}")).await.json(200);
        assert_eq!((&read["key"], &read["value"]), (&json!(key), &json!(key)));
    }
}

#[tokio::test]
async fn a_key_in_a_path_is_decoded_once() {
    let service = Service::start(&[]).await;
    service.write("a/b", "slash").await;
    service.write("a%2Fb", "percent").await;
    service.write("a+b", "plus").await;
    for (path, value) in [
        ("a/b", "slash"),
        ("a%2Fb", "slash"),
        ("a%2fb", "slash"),
        ("a%252Fb", "percent"),
        ("a+b", "plus"),
        ("a%2Bb", "plus"),
    ] {
        let read = service.get(&format!("/read/{path}")).await.json(200);
        assert_eq!(read["value"], value, "{path}");
    }
}

#[tokio::test]
async fn a_key_is_1_to_2048_bytes_without_nul() {
    let service = Service::start(&[]).await;
    let longest = "é".repeat(1024);
    assert_eq!(longest.len(), 2048);
    service.write(&longest, "long").await;
    assert_eq!(service.read(&longest).await.json(200)["value"], "long");
    let too_long = format!("{longest}x");
    for key in ["", "\0", "a\0b", too_long.as_str()] {
        let body = json!({"key": key, "value": "v"});
        let written = service.post("/write", &body).await;
        assert_eq!(written.wrong_fields(), ["key"], "{key:?}");
        let path = format!("/read/{}", encoded(key));
        assert_eq!(service.get(&path).await.wrong_fields(), ["key"], "{key:?}");
        let deleted = service.delete(&path).await;
        assert_eq!(deleted.wrong_fields(), ["key"], "{key:?}");
        let many = json!({"keys": ["fine", key]});
        let many = service.post("/read", &many).await;
        assert_eq!(many.wrong_fields(), ["keys[1]"], "{key:?}");
    }
    // Random characters, which an index cannot compress.
    let random: String = (0..682).map(|_| fastrand::char('\u{800}'..'\u{d7ff}')).collect();
    service.write(&random, "random").await;
    assert_eq!(service.read(&random).await.json(200)["value"], "random");
}

#[tokio::test]
async fn a_path_that_is_not_utf8_is_400() {
    let service = Service::start(&[]).await;
    let answer = service.get("/read/%ff%fe").await;
    answer.problem(400, "bad-request");
}

#[tokio::test]
async fn a_value_may_be_anything_but_nul() {
    let service = Service::start(&[]).await;
    let long = "0123456789".repeat(90_000);
    for value in ["", " ", "{\"a\":[1,2]}", "línea\r\n\t\u{1}\u{7f}", "🦀", &long] {
        service.write("key", value).await;
        let read = service.read("key").await.json(200);
        assert!(read["value"] == value, "{:.40}", value);
    }
    let nul = json!({"key": "key", "value": "a\0b"});
    let nul = service.post("/write", &nul).await;
    assert_eq!(nul.wrong_fields(), ["value"]);
}

#[tokio::test]
async fn many_keys_are_read_in_one_request() {
    let service = Service::start(&[]).await;
    let versions = [service.write("a", "1").await, service.write("b/c", "2").await];
    let wanted = json!({"keys": ["z", "a", "b/c", "y", "a", "z"]});
    let many = service.post("/read", &wanted).await.json(200);
    assert_eq!(many["missing"], json!(["z", "y"]));
    let found = many["found"].as_object().unwrap();
    assert_eq!(found.len(), 2);
    for (key, value, version) in [("a", "1", versions[0]), ("b/c", "2", versions[1])] {
        assert_eq!(found[key]["value"], value);
        assert_eq!(found[key]["version"], version);
    }
}

#[tokio::test]
async fn a_thousand_keys_cost_one_query_and_more_are_refused() {
    let service = Service::start(&[("CACHE_MODE", "off")]).await;
    let keys: Vec<_> = (0..1001).map(|n| format!("key {n}")).collect();
    let queries = async || {
        let stats = service.get("/pool-stats").await.json(200);
        stats["query_count"].as_u64().unwrap()
    };
    let before = queries().await;
    let many = service.post("/read", &json!({"keys": &keys[..1000]})).await;
    assert_eq!(many.json(200)["missing"].as_array().unwrap().len(), 1000);
    assert_eq!(queries().await - before, 1);
    for keys in [&keys[..], &[]] {
        let refused = service.post("/read", &json!({ "keys": keys })).await;
        assert_eq!(refused.wrong_fields(), ["keys"]);
    }
}

#[tokio::test]
async fn requests_may_be_pipelined_on_one_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let service = Service::start(&[]).await;
    service.write("key", "value").await;
    let mut stream = tokio::net::TcpStream::connect(service.address).await.unwrap();
    let request = "GET /read/key HTTP/1.1\r\nhost: x\r\n\r\n".repeat(19)
        + "GET /read/key HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 20);
    assert_eq!(text.matches("\"value\":\"value\"").count(), 20);
}

#[tokio::test]
async fn a_connection_is_kept_for_further_requests_after_an_error() {
    let service = Service::start(&[]).await;
    let mut connection: Connection = service.connect().await;
    for _ in 0..3 {
        let absent = connection.ask("GET", "/read/nothing", &[], "").await;
        absent.unwrap().problem(404, "not-found");
        let wrong = connection.post("/write", &json!({"key": 1})).await;
        assert_eq!(wrong.unwrap().wrong_fields(), ["key", "value"]);
    }
}

/// Some routes are found without the router, so this test tries spellings close to them.
#[tokio::test]
async fn every_method_and_spelling_of_the_routes_most_asked_for_is_answered() {
    let service = Service::start(&[]).await;
    let value = json!({"key": "a/b c", "value": "here"});
    service.post("/write", &value).await.json(200);
    let user = json!({"name": "Ada", "email": "ada@example.org"});
    let id = service.post("/users/", &user).await.json(201)["id"].clone();

    for path in ["/read/a/b%20c", "/read/a%2Fb%20c", "/read/a%2fb%20c?x=1"] {
        assert_eq!(service.get(path).await.json(200)["value"], "here", "{path}");
        let head = service.ask("HEAD", path, &[], "").await;
        assert_eq!((head.status, head.text()), (200, ""), "{path}");
        let refused = service.ask("PUT", path, &[], "").await;
        refused.problem(405, "method-not-allowed");
        assert_eq!(refused.headers["allow"], "GET,HEAD,DELETE,OPTIONS");
    }
    service.get("/read/").await.problem(422, "validation");
    let head = service.ask("HEAD", "/read/nothing", &[], "").await;
    assert_eq!(head.status, 404);

    for path in [
        format!("/users/{id}"),
        format!("/users/%3{id}"),
        format!("/users/0{id}"),
    ] {
        assert_eq!(service.get(&path).await.json(200)["name"], "Ada", "{path}");
    }
    for path in ["/users/-1", "/users/0", "/users/9223372036854775807"] {
        service.get(path).await.problem(404, "not-found");
    }
    for path in ["/users/9223372036854775808", "/users/1a", "/users/%20"] {
        service.get(path).await.problem(422, "validation");
    }
    for (path, location) in [("/users/1/", "../1"), ("/write/", "../write")] {
        let moved = service.get(path).await;
        assert_eq!((moved.status, &*moved.headers["location"]), (307, location));
    }
    service.get("/reads").await.problem(404, "not-found");
    service.get("/write").await.problem(405, "method-not-allowed");
    service.delete("/read/a/b%20c").await;
    service.get("/read/a/b%20c").await.problem(404, "not-found");
}
