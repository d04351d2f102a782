//! No password and no parameter is printed with a pool, its settings, its errors or a command.

use std::{error::Error, fmt::Debug, time::Duration};

use cenote_postgres::{Command, Config, Password, Pool};

const MARKER: &str = "hunter2";

fn hides(what: &dyn Debug) {
    cenote_testing::hides(what, MARKER);
}

fn hides_with_sources(error: &dyn Error) {
    cenote_testing::hides_with_sources(error, MARKER);
}

#[tokio::test]
async fn neither_settings_nor_a_pool_nor_its_errors_show_a_password() {
    let url = format!("postgresql://user:{MARKER}@127.0.0.1:1/shop");
    let mut config = Config::from_url(&url).unwrap();
    hides(&config);
    config.password = Some(Password::from_fn(|| async { Ok(MARKER.to_owned()) }));
    config.pool.acquire_timeout = Duration::from_millis(300);
    hides(&config);
    hides(&config.password);
    let pool = Pool::new(config).unwrap();
    hides(&pool);
    hides(&pool.stats());
    hides_with_sources(&pool.get().await.unwrap_err());
    hides(&pool.health().await);
}

#[test]
fn a_command_shows_its_statement_and_not_its_parameters() {
    let command = format!("{:?}", Command::new("SELECT $1", &[&MARKER]));
    assert!(command.contains("SELECT") && !command.contains(MARKER), "{command}");
}

#[test]
fn the_complaint_about_a_url_quotes_none_of_its_password() {
    for url in [
        "postgresql://user:hunter2@h:port/db",
        "postgresql://user:hun@hunter2@h/db",
        "postgresql://h/db?password=hunter2&nonsense=hunter2",
        "host=h password=hunter2 nonsense=hunter2",
        "host=h password='hunter2",
        "hunter2",
    ] {
        hides_with_sources(&Config::from_url(url).unwrap_err());
    }
}
