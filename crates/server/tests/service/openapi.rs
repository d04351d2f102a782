//! The OpenAPI description, checked by programs that implement the standard and compared with the service.

use std::{
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::support::{Launch, Service, redis};

/// A bound against hanging: more than any of these programs takes, even on a slow machine.
const LONGEST: Duration = Duration::from_secs(600);

/// A program that `scripts/setup test` has installed.
fn oracle(name: &str) -> PathBuf {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/oracles/bin");
    let program = bin.join(name);
    assert!(
        program.exists(),
        "{} is not there; run scripts/setup test",
        program.display()
    );
    program
}

/// Runs a program in this directory, until it ends.
async fn run(program: &str, directory: &Path, arguments: &[&str]) -> Output {
    let program = oracle(program);
    let bin = program.parent().unwrap().display();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .current_dir(directory)
        .env("PATH", path)
        .kill_on_drop(true);
    timeout(LONGEST, command.output()).await.unwrap().unwrap()
}

#[track_caller]
fn succeeded(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

/// The description that `cenote openapi` prints, written to `openapi.json`.
async fn description(directory: &Path) -> Value {
    let printed = Launch::new(&["openapi"]).run().await;
    assert_eq!(printed.code, Some(0));
    std::fs::write(directory.join("openapi.json"), &printed.output).unwrap();
    serde_json::from_str(&printed.output).unwrap()
}

#[tokio::test]
async fn the_description_is_valid_openapi() {
    let directory = tempfile::tempdir().unwrap();
    description(directory.path()).await;
    let checked = ["-m", "openapi_spec_validator", "--errors", "all", "openapi.json"];
    succeeded(&run("python", directory.path(), &checked).await);
}

#[tokio::test]
async fn the_description_has_the_bounds_that_the_service_keeps() {
    let directory = tempfile::tempdir().unwrap();
    let api = description(directory.path()).await;
    let at = |pointer: &str| api.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}")).clone();
    let schemas = "/components/schemas";
    for (pointer, value) in [
        (format!("{schemas}/Write/properties/key/minLength"), 1_u64),
        (format!("{schemas}/Write/properties/key/maxLength"), 2048),
        (format!("{schemas}/ReadMany/properties/keys/minItems"), 1),
        (format!("{schemas}/ReadMany/properties/keys/maxItems"), 1000),
        (format!("{schemas}/NewUser/properties/name/minLength"), 1),
        (format!("{schemas}/NewUser/properties/name/maxLength"), 200),
        (format!("{schemas}/NewUser/properties/email/maxLength"), 254),
    ] {
        assert_eq!(at(&pointer), value, "{pointer}");
    }
    // The service accepts what is at the bound, and refuses what is beyond.
    let service = Service::start(&[]).await;
    let post = async |path: &str, body: Value| service.post(path, &body).await.status;
    let keys = |count: usize| serde_json::json!({"keys": (0..count).map(|n| n.to_string()).collect::<Vec<_>>()});
    let key = |length: usize| serde_json::json!({"key": "k".repeat(length), "value": ""});
    let user = |length: usize| {
        let email = format!("{length}@example.org");
        serde_json::json!({"name": "n".repeat(length), "email": email})
    };
    for (path, within, beyond) in [
        ("/write", key(1), key(0)),
        ("/write", key(2048), key(2049)),
        ("/read", keys(1), keys(0)),
        ("/read", keys(1000), keys(1001)),
        ("/users/", user(1), user(0)),
        ("/users/", user(200), user(201)),
    ] {
        assert!(post(path, within).await < 300, "{path}");
        assert_eq!(post(path, beyond).await, 422, "{path}");
    }
    let parameters = at("/paths/~1users~1/get/parameters");
    let limit = parameters.as_array().unwrap().iter().find(|one| one["name"] == "limit");
    let limit = &limit.unwrap()["schema"];
    assert_eq!(
        (limit["minimum"].as_u64(), limit["maximum"].as_u64()),
        (Some(1), Some(1000))
    );
    assert_eq!(limit["default"], 100);
}

#[tokio::test]
async fn every_operation_names_each_status_that_its_requests_may_get() {
    let directory = tempfile::tempdir().unwrap();
    let api = description(directory.path()).await;
    let everywhere = &["400", "401", "403", "429", "500", "503"][..];
    let body = &["408", "413", "415", "422"][..];
    let database = &["504"][..];
    for (operation, own) in [
        ("post /write", &[&["200", "202", "412"], body, database][..]),
        ("get /read/{key}", &[&["200", "304", "404", "412", "422"], database]),
        ("post /read", &[&["200"], body, database]),
        ("delete /read/{key}", &[&["202", "204", "404", "412", "422"], database]),
        ("get /users/", &[&["200", "422"], database]),
        ("post /users/", &[&["201", "409", "412"], body, database]),
        ("get /users/{id}", &[&["200", "404", "422"], database]),
        ("get /health", &[&["200"]]),
        ("get /health/live", &[&["200"]]),
        ("get /health/ready", &[&["200"]]),
        ("get /pool-stats", &[&["200"]]),
        ("get /cache-stats", &[&["200"]]),
        ("get /dashboard/events", &[&["200", "422"]]),
    ] {
        let (method, path) = operation.split_once(' ').unwrap();
        let responses = api["paths"][path][method]["responses"].as_object().unwrap();
        let mut expected: Vec<_> = own.concat();
        expected.extend(everywhere);
        expected.sort_unstable();
        let named: Vec<_> = responses.keys().map(String::as_str).collect();
        assert_eq!(named, expected, "{operation}");
        for response in responses.values() {
            let response = match response["$ref"].as_str() {
                Some(reference) => api.pointer(reference.trim_start_matches('#')).unwrap(),
                None => response,
            };
            assert!(!response["description"].as_str().unwrap().is_empty(), "{operation}");
        }
    }
    let headers = |name: &str| api["components"]["responses"][name]["headers"].clone();
    assert!(headers("Unavailable")["Retry-After"].is_object());
    assert!(headers("PreconditionFailed")["ETag"].is_object());
}

/// A program that uses the generated client.
const CLIENT: &str = r#"
import sys
from cenote_client import Client
from cenote_client.api.keys import write_key, read_key, read_keys, delete_key
from cenote_client.api.users import add_user, list_users, get_user
from cenote_client.api.operations import health, live, ready, pool_stats, cache_stats
from cenote_client.models import Write, ReadMany, NewUser, Problem

client = Client(base_url=sys.argv[1])
written = write_key.sync(client=client, body=Write(key="a/b c?", value="one"))
assert (written.status, written.key, written.version) == ("ok", "a/b c?", 1), written
read = read_key.sync_detailed("a/b c?", client=client)
assert read.parsed.value == "one" and read.headers["etag"] == '"1"', read
lost = write_key.sync_detailed(client=client, body=Write(key="a/b c?", value="two"), if_match='"7"')
assert lost.status_code == 412 and isinstance(lost.parsed, Problem), lost
assert lost.parsed.type_.value == "urn:cenote:problem:precondition-failed", lost.parsed
many = read_keys.sync(client=client, body=ReadMany(keys=["a/b c?", "nope"]))
assert many.found["a/b c?"].value == "one" and many.missing == ["nope"], many
wrong = read_keys.sync_detailed(client=client, body=ReadMany(keys=[]))
assert wrong.status_code == 422 and wrong.parsed.errors[0].field == "keys", wrong
assert delete_key.sync_detailed("a/b c?", client=client).status_code == 204
assert read_key.sync("a/b c?", client=client).status == 404
ada = add_user.sync(client=client, body=NewUser(name="Ada", email="ada@example.org"))
assert get_user.sync(ada.id, client=client) == ada
assert list_users.sync(client=client, limit=10) == [ada]
taken = add_user.sync(client=client, body=NewUser(name="Eve", email="ADA@example.org"))
assert isinstance(taken, Problem) and taken.status == 409, taken
assert health.sync(client=client).status == "ok"
assert live.sync(client=client).status == "ok" and ready.sync(client=client).status == "ok"
assert pool_stats.sync(client=client).initialized and cache_stats.sync(client=client).mode == "local"
"#;

#[tokio::test]
async fn a_client_that_is_generated_from_the_description_works() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    description(at).await;
    std::fs::write(at.join("config.yml"), "package_name_override: cenote_client\n").unwrap();
    let generate = [
        "generate",
        "--path",
        "openapi.json",
        "--meta",
        "none",
        "--config",
        "config.yml",
        "--output-path",
        "cenote_client",
        "--fail-on-warning",
    ];
    succeeded(&run("openapi-python-client", at, &generate).await);
    std::fs::write(at.join("uses_it.py"), CLIENT).unwrap();
    let service = Service::start(&[]).await;
    let base = format!("http://{}", service.address);
    succeeded(&run("python", at, &["uses_it.py", &base]).await);
}

#[tokio::test]
async fn generated_requests_are_answered_as_described() {
    let redis = redis().await;
    let service = Service::start(&[("REDIS_URL", &redis.url())]).await;
    service.uses_its_cache().await;
    // A service of its own for what pauses the pool or takes its host away.
    let administered = Service::start(&[("DB_POOL_TIMEOUT", "0.2")]).await;
    // The tool also tries each operation without the key, and with a wrong one.
    let secrets = tempfile::tempdir().unwrap();
    let key_file = secrets.path().join("key");
    let guarded = Service::start(&[
        ("AUTH", "keys"),
        ("AUTH_OPEN", "docs"),
        ("CENOTE_BOOTSTRAP_KEY_FILE", key_file.to_str().unwrap()),
        ("RATE_LIMIT_AUTH_FAILURES", "off"),
    ])
    .await;
    let key = std::fs::read_to_string(&key_file).unwrap();
    let authorization = format!("--header=Authorization: Bearer {}", key.trim());
    // The answer depends on other requests: whether a key has a value, its version, and which addresses are taken. For
    // some headers the tool generates values that are no entity tags.
    // For an administrator also: whether limits fit those that stay, and whether a text is a filter of the log.
    let expected = |further: &str| {
        let statuses = format!("[\"2xx\", \"304\", \"400\", \"404\", \"409\", \"412\"{further}]");
        format!("[checks.positive_data_acceptance]\nexpected-statuses = {statuses}\n")
    };
    let (api, admin) = (
        // Of the stream, which does not end, the tests of the dashboard tell.
        ("--exclude-path-regex=^/(admin|dashboard)/", expected("")),
        ("--include-path-regex=^/admin/", expected(", \"422\"")),
    );
    let requests = async |service: &Service, (paths, expected): &(&str, String), further: &[&str]| {
        let description = format!("http://{}/openapi.json", service.address);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("schemathesis.toml"), expected).unwrap();
        let mut arguments = vec![
            "run",
            &description,
            "--checks=all",
            // The tool expects an error for an unknown parameter; the service ignores it.
            "--exclude-checks=negative_data_rejection",
            "--mode=all",
            "--max-examples=40",
            "--seed=1",
            "--generation-deterministic",
            "--request-timeout=30",
            "--no-color",
            paths,
        ];
        arguments.extend(further);
        succeeded(&run("schemathesis", directory.path(), &arguments).await);
    };
    let with_token = ["--phases=examples,fuzzing", &authorization];
    // Several processes: the tool is one thread of Python, and takes most of the time itself.
    tokio::join!(
        requests(&service, &api, &["--phases=examples,coverage,fuzzing"]),
        requests(&service, &api, &["--phases=stateful"]),
        requests(&administered, &admin, &["--phases=examples,coverage,fuzzing"]),
        requests(&guarded, &api, &with_token),
    );
}
