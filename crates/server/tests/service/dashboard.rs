//! The page at `/` and its stream of figures.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use crate::support::{AT_ONCE, Events, SOON, Service, create_key, eventually, secs};

/// The value of a column of a row.
fn column(start: &Value, row: &Value, name: &str) -> u64 {
    let columns = start["columns"].as_array().unwrap();
    let at = columns.iter().position(|column| column == name);
    row[at.unwrap_or_else(|| panic!("no column {name}"))].as_u64().unwrap()
}

#[tokio::test]
async fn the_page_and_its_files_come_from_anywhere_below_any_prefix() {
    let service = Service::start(&[("AUTH", "keys")]).await;
    let page = service.get("/").await;
    assert_eq!(
        (page.status, &*page.headers["content-type"]),
        (200, "text/html; charset=utf-8")
    );
    assert_eq!(
        page.headers["content-security-policy"],
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    assert_eq!(page.headers["cache-control"], "no-cache");
    let tag = page.headers["etag"].clone();
    let known = service.ask("GET", "/", &[("if-none-match", &tag)], "").await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let references = page
        .text()
        .match_indices("=\"dashboard/")
        .map(|(at, found)| at + found.len() - 10);
    let mut count = 0;
    for at in references {
        let reference = page.text()[at..].split('"').next().unwrap();
        let file = service.get(&format!("/{reference}")).await;
        assert_eq!(file.status, 200, "{reference}");
        assert_eq!(file.headers["cache-control"], "public, max-age=31536000, immutable");
        assert_eq!(file.headers["vary"], "Accept-Encoding");
        count += 1;
    }
    assert!(count >= 2, "{count}");
    service.get("/dashboard/dashboard.js").await.problem(404, "not-found");
    service
        .ask("POST", "/", &[], "")
        .await
        .problem(405, "method-not-allowed");
}

#[tokio::test]
async fn a_viewer_gets_the_past_and_then_a_row_a_second() {
    let service = Service::start(&[("CACHE_MODE", "off"), ("DB_POOL_MAX", "7")]).await;
    service.write("key", "value").await;
    let mut first = service.watch().await;
    let start = first.next_of("start").await;
    assert_eq!(first.headers["content-type"], "text/event-stream");
    assert_eq!(first.headers["cache-control"], "no-store");
    assert_eq!(first.headers["x-accel-buffering"], "no");
    assert_eq!(start["actions"], true);
    assert_eq!(start["interval_ms"], 1000);
    assert_eq!(start["instance"], service.address.to_string());
    assert_eq!(first.state["pool"]["max"], 7);
    assert_eq!(first.state["cache"]["mode"], "off");
    let mut rows = Vec::new();
    while rows.len() < 4 {
        rows.push(first.next_of("row").await);
    }
    let times: Vec<u64> = rows.iter().map(|row| column(&start, row, "t")).collect();
    assert!(times.windows(2).all(|pair| pair[1] >= pair[0] + 400), "{times:?}");
    for _ in 0..20 {
        service.read("key").await.json(200);
    }
    eventually("the reads are seen", async || {
        let row = first.next_of("row").await;
        let seen = column(&start, &row, "requests") > 0 && column(&start, &row, "p99") > 0;
        (seen && column(&start, &row, "database") > 0).then_some(())
    })
    .await;
    // A later viewer gets what the first one saw, or only what it lacks.
    let mut second = service.watch().await;
    let past = second.next_of("start").await["history"].clone();
    assert!(rows.iter().all(|row| past.as_array().unwrap().contains(row)), "{past}");
    let path = format!("/dashboard/events?since={}", times[2]);
    let mut third = Events::open(service.address, &path, &[]).await;
    let past = third.next_of("start").await["history"].clone();
    assert_eq!(past[0], rows[3]);
}

#[tokio::test]
async fn figures_need_the_scope_metrics_or_admin() {
    let service = Service::start(&[("AUTH", "keys")]).await;
    let path = "/dashboard/events";
    service.get(path).await.problem(401, "unauthorized");
    for (scope, status, actions) in [
        ("read", 403, false),
        ("write", 403, false),
        ("metrics", 200, false),
        ("admin", 200, true),
    ] {
        let key = create_key(&service.database, scope).await;
        let bearer = format!("Bearer {key}");
        let mut events = Events::open(service.address, path, &[("authorization", &bearer)]).await;
        assert_eq!(events.status, status, "{scope}");
        if status == 200 {
            assert_eq!(events.next_of("start").await["actions"], actions, "{scope}");
        }
    }
}

#[tokio::test]
async fn a_request_that_failed_is_shown_with_its_id() {
    let service = Service::start(&[("AUTH", "keys")]).await;
    let key = create_key(&service.database, "metrics").await;
    let bearer = format!("Bearer {key}");
    let mut events = Events::open(service.address, "/dashboard/events", &[("authorization", &bearer)]).await;
    let wrong = [("authorization", "Bearer wrong"), ("x-request-id", "the-one")];
    service
        .ask("GET", "/read/key", &wrong, "")
        .await
        .problem(401, "unauthorized");
    let failed = eventually("the failure is shown", async || {
        events.next().await.unwrap();
        events.state["errors"].get(0).cloned()
    })
    .await;
    assert_eq!(
        (&failed["status"], &failed["request_id"]),
        (&json!(401), &json!("the-one"))
    );
    assert_eq!(
        (&failed["route"], &failed["code"]),
        (&json!("/read/{key}"), &json!("unauthorized"))
    );
}

#[tokio::test]
async fn a_page_of_another_site_may_look_and_not_act() {
    let service = Service::start(&[]).await;
    let headers = [("sec-fetch-site", "cross-site")];
    let mut events = Events::open(service.address, "/dashboard/events", &headers).await;
    assert_eq!(events.next_of("start").await["actions"], false);
}

#[tokio::test]
async fn a_stop_ends_every_stream_at_once() {
    let service = Service::start(&[("SHUTDOWN_DELAY", "0"), ("SHUTDOWN_TIMEOUT", "30")]).await;
    let mut viewers = Vec::new();
    for _ in 0..20 {
        let mut viewer = service.watch().await;
        viewer.next_of("start").await;
        viewers.push(viewer);
    }
    let begun = Instant::now();
    let address = service.address;
    service.signal("TERM");
    for viewer in &mut viewers {
        assert_eq!(viewer.last().await, ("end".to_owned(), json!({"reason": "draining"})));
    }
    let ended = service.ended(AT_ONCE).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(begun.elapsed() < AT_ONCE, "{:?} at {address}", begun.elapsed());
}

#[tokio::test]
async fn viewers_that_do_not_read_hold_up_neither_the_others_nor_the_end() {
    let service = Service::start(&[("SHUTDOWN_DELAY", "0"), ("CACHE_MODE", "off")]).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        let socket = TcpSocket::new_v4().unwrap();
        // The kernel makes it the smallest that there is: less than the first event needs.
        socket.set_recv_buffer_size(1).unwrap();
        let mut stream = socket.connect(service.address).await.unwrap();
        let request = b"GET /dashboard/events HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        silent.push(stream);
    }
    let mut viewer = service.watch().await;
    viewer.next_of("start").await;
    for _ in 0..5 {
        // What viewers are sent changes with each.
        service.get("/read/absent").await.problem(404, "not-found");
        viewer.next_of("row").await;
    }
    service.signal("TERM");
    assert_eq!(viewer.last().await.0, "end");
    let ended = service.ended(AT_ONCE).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn figures_stream_and_end_over_http2_too() {
    let service = Service::start(&[("SHUTDOWN_DELAY", "0")]).await;
    let stream = TcpStream::connect(service.address).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://localhost/dashboard/events");
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap());
    let mut body = response.await.unwrap().into_body();
    let mut text = Vec::new();
    let mut more = async |text: &mut Vec<u8>| {
        let frame = timeout(SOON, body.frame()).await.expect("an event in time")?;
        text.extend_from_slice(&frame.unwrap().into_data().unwrap());
        Some(())
    };
    while !String::from_utf8_lossy(&text).contains("event: row") {
        more(&mut text).await.expect("the stream goes on");
    }
    service.signal("TERM");
    while more(&mut text).await.is_some() {}
    assert!(text.ends_with(b"event: end\ndata: {\"reason\":\"draining\"}\n\n"));
    drop(sender);
    assert_eq!(service.ended(AT_ONCE).await.code, Some(0));
}

#[tokio::test]
async fn the_viewer_beyond_the_last_place_is_told_why_until_one_leaves() {
    let service = Service::start(&[]).await;
    let mut viewers = Vec::new();
    for _ in 0..200 {
        viewers.push(service.watch().await);
    }
    let refused = service.get("/dashboard/events").await;
    refused.problem(503, "too-many-viewers");
    assert!(refused.headers.contains_key("retry-after"));
    drop(viewers.pop());
    eventually("there is a place again", async || {
        let events = Events::open(service.address, "/dashboard/events", &[]).await;
        (events.status == 200).then_some(())
    })
    .await;
    // None of them keeps requests from being served.
    service.write("key", "value").await;
    drop(viewers);
    let ended = service.stop(AT_ONCE + secs(1)).await;
    assert!(ended.code == Some(0) && AT_ONCE < SOON, "{ended:?}");
}

/// What a browser sends with a request of a page.
async fn act(service: &Service, site: &str, key: &str) -> crate::support::Answer {
    let bearer = format!("Bearer {key}");
    let headers = [
        ("content-type", "application/json"),
        ("sec-fetch-site", site),
        ("authorization", &bearer),
    ];
    service.ask("POST", "/admin/resize", &headers, r#"{"max": 9}"#).await
}

#[tokio::test]
async fn an_action_of_the_page_is_audited_and_one_of_another_site_has_no_effect() {
    let service = Service::start(&[("AUTH", "keys"), ("CACHE_MODE", "off"), ("AUDIT_LOG", "audit.log")]).await;
    let key = create_key(&service.database, "admin").await;
    for site in ["cross-site", "same-site"] {
        act(&service, site, &key).await.problem(403, "forbidden");
    }
    let watch = async || {
        let headers = [("authorization", &*format!("Bearer {key}"))];
        let mut events = Events::open(service.address, "/dashboard/events", &headers).await;
        events.next_of("start").await
    };
    assert_eq!(watch().await["state"]["pool"]["max"], 10);
    act(&service, "same-origin", &key).await.json(200);
    let audit = std::fs::read_to_string(service.path("audit.log")).unwrap();
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let results: Vec<_> = lines.iter().map(|line| line["result"].as_u64().unwrap()).collect();
    assert_eq!(results, [403, 403, 200]);
    let last = &lines[2];
    assert!(last["who"].as_str().unwrap().contains("(test)"), "{last}");
    assert!(last["detail"].as_str().unwrap().contains("max 9"), "{last}");
}

#[tokio::test]
async fn a_page_may_look_and_not_act_if_actions_are_off() {
    let service = Service::start(&[("AUTH", "keys"), ("DASHBOARD_ACTIONS", "off")]).await;
    let key = create_key(&service.database, "admin").await;
    act(&service, "same-origin", &key).await.problem(403, "forbidden");
    let bearer = format!("Bearer {key}");
    let mut events = Events::open(service.address, "/dashboard/events", &[("authorization", &bearer)]).await;
    assert_eq!(events.next_of("start").await["actions"], false);
    // A program sends no `Sec-Fetch-Site`.
    let headers = [("content-type", "application/json"), ("authorization", &*bearer)];
    service
        .ask("POST", "/admin/resize", &headers, r#"{"max": 9}"#)
        .await
        .json(200);
}

#[tokio::test]
async fn memory_and_descriptors_are_back_after_the_last_viewer() {
    let service = Service::start(&[("CACHE_MODE", "off")]).await;
    let open = || std::fs::read_dir(format!("/proc/{}/fd", service.id())).unwrap().count();
    let idle = open();
    let crowd = async || {
        let mut viewers = Vec::new();
        for _ in 0..100 {
            viewers.push(service.watch().await);
        }
        for viewer in &mut viewers {
            viewer.next_of("row").await;
        }
        // A few connections to the database, and the client that asked whether the service is ready, may have come
        // or gone since `idle` was counted.
        assert!(open() >= idle + 80, "{} open, {idle} before", open());
        drop(viewers);
        eventually("the connections of the viewers are closed", async || {
            (open() < idle + 20).then_some(())
        })
        .await;
    };
    // The first crowd lets the allocator take what it keeps.
    crowd().await;
    let before = service.memory();
    for _ in 0..3 {
        crowd().await;
    }
    let grown = service.memory().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes");
}
