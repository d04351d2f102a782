//! The conditions `If-Match` and `If-None-Match`.

mod histories;
mod history;
mod races;
mod rules;

use serde_json::json;

use crate::support::{Answer, Service, encoded};

const JSON: (&str, &str) = ("content-type", "application/json");

impl Service {
    /// Writes under the conditions of these headers.
    async fn write_if(&self, key: &str, value: &str, headers: &[(&str, &str)]) -> Answer {
        let headers = [&[JSON], headers].concat();
        let body = json!({"key": key, "value": value}).to_string();
        self.ask("POST", "/write", &headers, body).await
    }

    /// Deletes under the conditions of these headers.
    async fn delete_if(&self, key: &str, headers: &[(&str, &str)]) -> Answer {
        let path = format!("/read/{}", encoded(key));
        self.ask("DELETE", &path, headers, "").await
    }

    /// Fails unless the key has this value and version.
    async fn holds(&self, key: &str, value: &str, version: i64) {
        let read = self.read(key).await.json(200);
        assert_eq!((&read["value"], &read["version"]), (&json!(value), &json!(version)));
    }
}
