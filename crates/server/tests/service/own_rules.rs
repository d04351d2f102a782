//! Rules that users add to the tables: a value that they refuse is an error for its sender alone.

use serde_json::json;

use crate::support::{Database, Service};

#[tokio::test]
async fn a_value_that_a_rule_refuses_is_422_and_the_others_of_its_statement_are_written() {
    let database = Database::create().await;
    let service = Service::start_with(&database, &[]).await;
    let rules = "ALTER TABLE kv ADD CHECK (value <> 'constraint'); \
                 CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF NEW.value = 'trigger' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END $$; \
                 CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON kv FOR EACH ROW EXECUTE FUNCTION refuse(); \
                 ALTER TABLE users ADD CHECK (name <> 'constraint')";
    database.session().await.run(rules).await;
    for refused in ["constraint", "trigger"] {
        // Together with accepted values, which share its statement.
        let writes = (0..32).map(|n| {
            let value = if n % 8 == 0 { refused } else { "value" };
            let body = json!({"key": format!("{refused}{n}"), "value": value});
            let service = &service;
            async move { (value == refused, service.post("/write", &body).await) }
        });
        for (is_refused, answer) in futures_util::future::join_all(writes).await {
            if is_refused {
                answer.problem(422, "validation");
            } else {
                answer.json(200);
            }
        }
        let kept = service.read(&format!("{refused}0")).await;
        kept.problem(404, "not-found");
        let kept = service.read(&format!("{refused}1")).await;
        assert_eq!(kept.json(200)["value"], "value");
    }
    let user = json!({"name": "constraint", "email": "ada@example.org"});
    let refused = service.post("/users/", &user).await;
    refused.problem(422, "validation");
    let user = json!({"name": "Ada", "email": "ada@example.org"});
    service.post("/users/", &user).await.json(201);
}

#[tokio::test]
async fn every_answer_tells_http_caches_to_revalidate() {
    let service = Service::start(&[]).await;
    service.write("key", "value").await;
    for path in ["/read/key", "/read/none", "/users/", "/health", "/metrics", "/"] {
        let answer = service.get(path).await;
        let said = answer.headers.get("cache-control").map(|value| &**value);
        assert!(matches!(said, Some("no-cache" | "no-store")), "{path}: {said:?}");
    }
}
