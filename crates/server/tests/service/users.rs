//! Users: `/users`.

use serde_json::{Value, json};

use crate::support::{Answer, Service, resolve};

impl Service {
    async fn add(&self, name: &str, email: &str) -> Answer {
        let body = json!({"name": name, "email": email});
        self.post("/users/", &body).await
    }
}

#[tokio::test]
async fn a_user_is_added_with_201_and_a_location_to_find_it_at() {
    let service = Service::start(&[]).await;
    for (path, name) in [("/users/", "ada"), ("/users", "bob")] {
        let user = json!({"name": name, "email": format!("{name}@example.org")});
        let added = service.post(path, &user).await;
        let body = added.json(201);
        assert_eq!((&body["name"], &body["email"]), (&user["name"], &user["email"]));
        let location = resolve(path, &added.headers["location"]);
        assert_eq!(location, format!("/users/{}", body["id"]));
        assert_eq!(service.get(&location).await.json(200), body);
    }
    let listed = service.get("/users/").await;
    let all = listed.json(200);
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert!(!listed.headers.contains_key("link"));
    assert_eq!(service.get("/users").await.json(200), all);
}

#[tokio::test]
async fn an_address_that_is_taken_is_409_in_upper_and_lower_case() {
    let service = Service::start(&[]).await;
    service.add("Ada", "Ada@Example.org").await.json(201);
    for email in ["Ada@Example.org", "ada@example.org", "ADA@EXAMPLE.ORG"] {
        let taken = service.add("Eve", email).await;
        taken.problem(409, "conflict");
        assert!(!taken.text().contains("xample"), "{}", taken.text());
    }
    let all = service.get("/users/").await.json(200);
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(all[0]["email"], "Ada@Example.org");
}

#[tokio::test]
async fn of_twenty_requests_for_one_address_at_once_one_succeeds() {
    let service = std::sync::Arc::new(Service::start(&[]).await);
    let adding = (0..20).map(|n| {
        let service = service.clone();
        tokio::spawn(async move { service.add(&n.to_string(), "one@example.org").await.status })
    });
    let mut statuses = Vec::new();
    for status in adding.collect::<Vec<_>>() {
        statuses.push(status.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201);
    assert!(statuses[1..].iter().all(|status| *status == 409), "{statuses:?}");
}

#[tokio::test]
async fn following_the_links_visits_every_user_once_in_order() {
    let service = Service::start(&[]).await;
    for n in 0..25 {
        service
            .add(&format!("user {n}"), &format!("u{n}@example.org"))
            .await
            .json(201);
    }
    for limit in [1, 7, 12, 25, 26] {
        let mut path = format!("/users/?limit={limit}");
        let mut seen: Vec<Value> = Vec::new();
        loop {
            let page = service.get(&path).await;
            let users = page.json(200);
            let users = users.as_array().unwrap();
            assert!(users.len() <= limit && !users.is_empty());
            seen.extend_from_slice(users);
            let Some(link) = page.headers.get("link") else {
                break;
            };
            assert_eq!(users.len(), limit);
            let (target, relation) = link.split_once('>').unwrap();
            assert_eq!(relation, "; rel=\"next\"");
            path = resolve(&path, target.strip_prefix('<').unwrap());
        }
        let names: Vec<_> = seen.iter().map(|user| user["name"].as_str().unwrap()).collect();
        let expected: Vec<_> = (0..25).map(|n| format!("user {n}")).collect();
        assert_eq!(names, expected, "with limit {limit}");
    }
}

#[tokio::test]
async fn a_page_has_100_users_unless_told_otherwise_and_starts_after_an_id() {
    let service = Service::start(&[]).await;
    let session = service.database.session().await;
    session
        .run(
            "INSERT INTO users (name, email) \
             SELECT 'user ' || n, n || '@example.org' FROM generate_series(1, 1100) n",
        )
        .await;
    let count = async |path: &str| {
        let page = service.get(path).await;
        let next = page.headers.contains_key("link");
        (page.json(200).as_array().unwrap().len(), next)
    };
    assert_eq!(count("/users/").await, (100, true));
    assert_eq!(count("/users").await, (100, true));
    assert_eq!(count("/users/?limit=1000").await, (1000, true));
    assert_eq!(count("/users?limit=1000&after=1050").await, (50, false));
    assert_eq!(count("/users/?after=1100").await, (0, false));
    let page = service.get("/users/?after=500&limit=1").await.json(200);
    assert_eq!(page[0]["id"], 501);
}

#[tokio::test]
async fn limits_and_positions_out_of_range_are_422() {
    let service = Service::start(&[]).await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("after=-1", "after"),
        ("after=x", "after"),
        ("after=9223372036854775808", "after"),
    ] {
        let refused = service.get(&format!("/users/?{query}")).await;
        assert_eq!(refused.wrong_fields(), [field], "{query}");
    }
}

#[tokio::test]
async fn an_unknown_user_is_404_and_an_id_that_is_no_number_422() {
    let service = Service::start(&[]).await;
    for id in ["1", "0", "-1", "9223372036854775807"] {
        let absent = service.get(&format!("/users/{id}")).await;
        absent.problem(404, "not-found");
    }
    for id in ["x", "1.5", "9223372036854775808", "%20"] {
        let wrong = service.get(&format!("/users/{id}")).await;
        assert_eq!(wrong.wrong_fields(), ["id"], "{id}");
    }
}

#[tokio::test]
async fn a_user_needs_a_name_and_an_address_that_could_exist() {
    let service = Service::start(&[]).await;
    let long_name = "ñ".repeat(200);
    service.add(&long_name, "long@example.org").await.json(201);
    let too_long = format!("{long_name}ñ");
    let long_address = format!("{}@example.org", "x".repeat(260));
    for (name, email, fields) in [
        ("", "a@example.org", &["name"][..]),
        (&too_long, "a@example.org", &["name"]),
        ("a\0b", "a@example.org", &["name"]),
        ("Ada", "", &["email"]),
        ("Ada", "example.org", &["email"]),
        ("Ada", "a@", &["email"]),
        ("Ada", "a b@example.org", &["email"]),
        ("Ada", "a\0@example.org", &["email"]),
        ("Ada", &long_address, &["email"]),
        ("", "nobody", &["email", "name"]),
    ] {
        let mut wrong = service.add(name, email).await.wrong_fields();
        wrong.sort();
        wrong.dedup();
        assert_eq!(wrong, fields, "{name:.20} {email:.20}");
    }
    for (body, field) in [
        (json!({"name": "Ada"}), "email"),
        (json!({"email": "a@example.org"}), "name"),
        (json!({"name": 1, "email": "a@example.org"}), "name"),
        (json!({"name": "Ada", "email": null}), "email"),
    ] {
        let wrong = service.post("/users/", &body).await.wrong_fields();
        assert_eq!(wrong, [field], "{body}");
    }
    let all = service.get("/users/").await.json(200);
    assert_eq!(all.as_array().unwrap().len(), 1, "nothing wrong was stored");
}

#[tokio::test]
async fn a_client_that_pages_while_users_are_added_misses_none() {
    let service = std::sync::Arc::new(Service::start(&[("DB_POOL_MAX_SIZE", "16")]).await);
    const CLIENTS: usize = 16;
    const EACH: usize = 60;
    let adding = (0..CLIENTS).map(|client| {
        let service = service.clone();
        tokio::spawn(async move {
            let mut connection = service.connect().await;
            for n in 0..EACH {
                let email = format!("{client}-{n}@example.org");
                let body = json!({"name": "Ada", "email": email});
                let added = connection.post("/users/", &body).await.unwrap().json(201);
                // The client's own user is listed at once.
                if n % 20 == 0 {
                    let id = added["id"].as_i64().unwrap();
                    let path = format!("/users/?limit=1&after={}", id - 1);
                    let listed = connection.ask("GET", &path, &[], "").await.unwrap().json(200);
                    assert_eq!(listed[0]["id"], id, "{listed}");
                }
                // A refused user leaves a gap in the ids.
                if n % 10 == 0 {
                    let again = connection.post("/users/", &body).await.unwrap();
                    again.problem(409, "conflict");
                }
            }
        })
    });
    let adding: Vec<_> = adding.collect();
    let mut connection = service.connect().await;
    let (mut after, mut seen, mut ended) = (0, Vec::new(), false);
    loop {
        let path = format!("/users/?limit=50&after={after}");
        let page = connection.ask("GET", &path, &[], "").await.unwrap().json(200);
        let page = page.as_array().unwrap();
        for user in page {
            let id = user["id"].as_i64().unwrap();
            assert!(id > after, "{id} after {after}");
            after = id;
            seen.push(user["email"].as_str().unwrap().to_owned());
        }
        if page.is_empty() && ended {
            break;
        }
        ended = adding.iter().all(|client| client.is_finished());
    }
    for client in adding {
        client.await.unwrap();
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), CLIENTS * EACH, "some were missed");
}

#[tokio::test]
async fn a_page_waits_for_an_open_insertion_or_ends_before_its_id() {
    let service = Service::start(&[]).await;
    service.add("Ada", "ada@example.org").await.json(201);
    let session = service.database.session().await;
    session
        .run("BEGIN; INSERT INTO users (name, email) VALUES ('Bob', 'bob@example.org')")
        .await;
    service.add("Eve", "eve@example.org").await.json(201);
    let names = async |path: &str| {
        let page = service.get(path).await.json(200);
        let names = page.as_array().unwrap().iter();
        names
            .map(|user| user["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    // A list from the start has all committed users. A list after an id ends before the id of the open insertion.
    assert_eq!(names("/users/").await, ["Ada", "Eve"]);
    assert_eq!(names("/users/?after=0").await, ["Ada"]);
    assert_eq!(names("/users/?after=1").await, [""; 0]);
    session.run("COMMIT").await;
    assert_eq!(names("/users/?after=1").await, ["Bob", "Eve"]);
    assert_eq!(names("/users/").await, ["Ada", "Bob", "Eve"]);
    // An id that is never used holds up no list.
    session
        .run("BEGIN; INSERT INTO users (name, email) VALUES ('Not', 'not@example.org'); ROLLBACK")
        .await;
    service.add("Zoe", "zoe@example.org").await.json(201);
    assert_eq!(names("/users/?after=3").await, ["Zoe"]);
}
