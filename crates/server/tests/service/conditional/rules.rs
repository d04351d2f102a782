//! What each condition means for reads, writes and deletes.

use serde_json::json;

use super::JSON;
use crate::support::Service;

#[tokio::test]
async fn a_delete_with_the_entity_tag_of_another_version_deletes_nothing() {
    let service = Service::start(&[]).await;
    service.write("key", "one").await;
    service.write("key", "two").await;
    for tags in ["\"1\"", "W/\"2\"", "\"1\", \"3\"", "\"x\""] {
        let refused = service.delete_if("key", &[("if-match", tags)]).await;
        refused.problem(412, "precondition-failed");
        assert_eq!(refused.headers["etag"], "\"2\"", "{tags}");
    }
    for headers in [
        &[("if-none-match", "*")][..],
        &[("if-none-match", "W/\"2\"")],
        &[("if-match", "\"2\""), ("if-none-match", "\"2\"")],
    ] {
        let refused = service.delete_if("key", headers).await;
        refused.problem(412, "precondition-failed");
    }
    service.holds("key", "two", 2).await;
    let deleted = service
        .delete_if("key", &[("if-match", "\"1\""), ("if-match", "\"2\"")])
        .await;
    assert_eq!(deleted.status, 204);
    assert_eq!(deleted.headers["etag"], "\"3\"");
    service.read("key").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_write_with_if_match_replaces_only_that_version() {
    let service = Service::start(&[]).await;
    service.write("key", "one").await;
    let written = service.write_if("key", "two", &[("if-match", "\"1\"")]).await;
    assert_eq!(written.json(200)["version"], 2);
    let lost = service.write_if("key", "lost", &[("if-match", "\"1\"")]).await;
    lost.problem(412, "precondition-failed");
    assert_eq!(lost.headers["etag"], "\"2\"");
    service.holds("key", "two", 2).await;
    let any = service.write_if("key", "three", &[("if-match", "*")]).await;
    assert_eq!(any.json(200)["version"], 3);
    let other = service
        .write_if("key", "four", &[("if-none-match", "\"1\", W/\"2\"")])
        .await;
    assert_eq!(other.json(200)["version"], 4);
}

#[tokio::test]
async fn a_write_with_if_none_match_of_anything_only_creates() {
    let service = Service::start(&[]).await;
    let create = [("if-none-match", "*")];
    let created = service.write_if("key", "one", &create).await;
    assert_eq!(created.json(200)["version"], 1);
    let again = service.write_if("key", "again", &create).await;
    again.problem(412, "precondition-failed");
    assert_eq!(again.headers["etag"], "\"1\"");
    service.holds("key", "one", 1).await;
    assert_eq!(service.delete("/read/key").await.status, 204);
    let anew = service.write_if("key", "anew", &create).await;
    assert_eq!(anew.json(200)["version"], 3, "a deleted key is absent");
    service.holds("key", "anew", 3).await;
}

#[tokio::test]
async fn if_match_for_a_key_without_a_value_is_412_and_makes_no_version() {
    let service = Service::start(&[]).await;
    service.write("deleted", "value").await;
    assert_eq!(service.delete("/read/deleted").await.status, 204);
    for key in ["never", "deleted"] {
        for tags in ["*", "\"1\"", "\"2\"", "\"0\""] {
            let headers = [("if-match", tags)];
            for refused in [
                service.write_if(key, "value", &headers).await,
                service.delete_if(key, &headers).await,
            ] {
                refused.problem(412, "precondition-failed");
                assert!(!refused.headers.contains_key("etag"));
            }
        }
        // The condition holds for an absent key, so the delete finds nothing.
        let absent = service.delete_if(key, &[("if-none-match", "\"1\"")]).await;
        absent.problem(404, "not-found");
        service.read(key).await.problem(404, "not-found");
    }
    let session = service.database.session().await;
    assert_eq!(session.number("SELECT count(*) FROM kv").await, 1);
}

#[tokio::test]
async fn a_read_with_if_match_is_412_unless_it_is_that_version_and_if_none_match_comes_second() {
    let service = Service::start(&[]).await;
    service.write("key", "one").await;
    for method in ["GET", "HEAD"] {
        let ask = async |headers: &[(&str, &str)]| {
            let answer = service.ask(method, "/read/key", headers, "").await;
            assert_eq!(answer.headers["etag"], "\"1\"");
            answer.status
        };
        assert_eq!(ask(&[("if-match", "\"1\"")]).await, 200);
        assert_eq!(ask(&[("if-match", "*")]).await, 200);
        assert_eq!(ask(&[("if-match", "\"2\"")]).await, 412);
        assert_eq!(ask(&[("if-match", "W/\"1\"")]).await, 412);
        assert_eq!(ask(&[("if-match", "\"1\""), ("if-none-match", "\"1\"")]).await, 304);
        assert_eq!(ask(&[("if-match", "\"2\""), ("if-none-match", "\"1\"")]).await, 412);
        let absent = service.ask(method, "/read/absent", &[("if-match", "*")], "").await;
        assert_eq!(absent.status, 404);
    }
}

#[tokio::test]
async fn a_condition_that_cannot_be_understood_is_400_and_names_the_header() {
    let service = Service::start(&[]).await;
    service.write("key", "one").await;
    for (header, name) in [("if-match", "If-Match"), ("if-none-match", "If-None-Match")] {
        for value in ["", "1", "\"1", "*, \"1\"", "w/\"1\"", "\"1\" \"2\""] {
            let headers = [(header, value)];
            for refused in [
                service.write_if("key", "two", &headers).await,
                service.delete_if("key", &headers).await,
                service.ask("GET", "/read/key", &headers, "").await,
            ] {
                let problem = refused.problem(400, "bad-request");
                assert!(problem["detail"].as_str().unwrap().contains(name), "{problem}");
            }
        }
    }
    service.holds("key", "one", 1).await;
}

#[tokio::test]
async fn a_user_is_not_added_under_a_condition_because_users_have_no_versions() {
    let service = Service::start(&[]).await;
    let body = json!({"name": "Ada", "email": "ada@example.org"}).to_string();
    for header in [("if-match", "*"), ("if-match", "\"1\""), ("if-none-match", "*")] {
        let refused = service.ask("POST", "/users/", &[JSON, header], &body).await;
        refused.problem(412, "precondition-failed");
    }
    assert_eq!(service.get("/users/").await.json(200), json!([]));
}
