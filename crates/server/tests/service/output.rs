//! The reader of the output may leave, stop reading, or have no space: the service goes on.

use std::{
    fs::File,
    io::{BufRead, BufReader, PipeReader, Read, Write, pipe},
    net::TcpListener,
};

use serde_json::Value;

use crate::support::{Connection, Database, Ended, Launch, Process, SOON, eventually};

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

fn serve(database: &Database) -> Launch {
    Launch::new(&["serve"])
        .env("DATABASE_URL", &database.url)
        .env("SHUTDOWN_DELAY", "0")
        .env("LOG", "debug")
}

/// A service that listens, and the rest of its log.
async fn logging_to_a_pipe() -> (Process, Connection, BufReader<PipeReader>) {
    let database = Database::create().await;
    let (reader, writer) = pipe().unwrap();
    let process = serve(&database).env("PORT", "0").stderr(writer).spawn();
    let mut log = BufReader::new(reader);
    let address = loop {
        let event = next_event(&mut log).expect("it ended");
        if let Some(address) = event["address"].as_str() {
            break address.parse().unwrap();
        }
    };
    (process, Connection::open(address).await.unwrap(), log)
}

fn next_event(log: &mut impl BufRead) -> Option<Value> {
    let mut line = String::new();
    let length = log.read_line(&mut line).unwrap();
    (length > 0).then(|| serde_json::from_str(&line).unwrap())
}

/// Makes requests that are logged.
async fn asks(connection: &mut Connection, times: usize, path: &str) {
    for _ in 0..times {
        let answer = connection.ask("GET", path, &[], "").await.unwrap();
        assert_eq!(answer.status, 404);
    }
}

async fn ends_well(process: Process) {
    process.signal("TERM");
    let ended = process.ended(SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn a_service_whose_log_is_no_longer_read_goes_on_and_ends_with_success() {
    let (process, mut connection, log) = logging_to_a_pipe().await;
    drop(log);
    asks(&mut connection, 100, "/nothing").await;
    ends_well(process).await;
}

#[tokio::test]
async fn a_reader_that_stalls_holds_up_no_request_and_learns_how_many_lines_it_missed() {
    let (process, mut connection, mut log) = logging_to_a_pipe().await;
    // More than the pipe and the buffer of the program hold.
    let long = format!("/nothing/{}", "x".repeat(4000));
    asks(&mut connection, 1000, &long).await;
    let reading = tokio::task::spawn_blocking(move || {
        let mut lines = 0;
        loop {
            let event = next_event(&mut log).expect("it ended");
            if let Some(dropped) = event["dropped"].as_u64() {
                return (lines, dropped, log);
            }
            lines += u64::from(event["message"] == "request");
        }
    });
    let (lines, dropped, log) = reading.await.unwrap();
    assert!(
        lines > 0 && dropped > 0 && lines + dropped >= 1000,
        "{lines} and {dropped}"
    );
    // From now on the log is read again.
    asks(&mut connection, 1, "/nothing/more").await;
    let reading = tokio::task::spawn_blocking(move || {
        let mut log = log;
        while next_event(&mut log).expect("it ended")["path"] != "/nothing/more" {}
        log
    });
    let _log = reading.await.unwrap();
    ends_well(process).await;
}

#[tokio::test]
async fn a_reader_that_stalls_does_not_hold_up_the_end() {
    let (process, mut connection, _log) = logging_to_a_pipe().await;
    asks(&mut connection, 500, &format!("/nothing/{}", "x".repeat(4000))).await;
    ends_well(process).await;
}

/// Waits until a service on this port is ready, and makes requests that are logged.
async fn serves(port: u16) {
    let mut connection = eventually("it listens", async || {
        Connection::open(([127, 0, 0, 1], port).into()).await.ok()
    })
    .await;
    eventually("it is ready", async || {
        let ready = connection.ask("GET", "/health/ready", &[], "").await;
        (ready.unwrap().status == 200).then_some(())
    })
    .await;
    asks(&mut connection, 100, "/nothing").await;
}

/// A port that is free at this moment.
fn port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_service_whose_log_has_no_space_goes_on_and_ends_with_success() {
    let (database, port) = (Database::create().await, port());
    let launch = serve(&database).env("PORT", &port.to_string());
    let process = launch.stderr(full()).spawn();
    serves(port).await;
    ends_well(process).await;
}

#[tokio::test]
async fn a_service_started_without_standard_streams_goes_on_and_ends_with_success() {
    let (database, port) = (Database::create().await, port());
    let launch = serve(&database).env("PORT", &port.to_string());
    let process = launch.through(r#"exec "$@" <&- >&- 2>&-"#).spawn();
    serves(port).await;
    ends_well(process).await;
}

/// Each command that ends by itself, with its arguments.
fn commands() -> Vec<Vec<&'static str>> {
    let commands = [
        "--help",
        "--version",
        "config",
        "config --json",
        "config --help",
        "openapi",
        "migrate",
        "check",
    ];
    commands.map(|command| command.split(' ').collect()).to_vec()
}

fn launch(arguments: &[&str], database: &Database) -> Launch {
    let launch = Launch::new(arguments).env("LOG", "off");
    launch.env("DATABASE_URL", &database.url)
}

#[tokio::test]
async fn a_command_whose_reader_has_left_succeeds() {
    let database = Database::create_durable().await;
    for arguments in commands() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let ended = launch(&arguments, &database).stdout(writer).run().await;
        assert_eq!((ended.code, &*ended.log), (Some(0), ""), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_command_whose_result_has_no_space_fails_with_the_reason() {
    let database = Database::create_durable().await;
    for arguments in commands() {
        let ended: Ended = launch(&arguments, &database).stdout(full()).run().await;
        assert_eq!(ended.code, Some(1), "{arguments:?}: {ended:?}");
        let words = "cenote: cannot write to standard output: No space left on device";
        assert!(ended.log.starts_with(words), "{arguments:?}: {ended:?}");
    }
}

#[tokio::test]
async fn the_exit_code_tells_of_an_error_even_if_its_text_cannot_be_written() {
    let database = Database::create_durable().await;
    for (arguments, code) in [(["surf"], 2), (["config"], 2), (["check"], 1), (["migrate"], 1)] {
        for output in ["gone", "full"] {
            let wrong = match arguments {
                ["config"] => ("CACHE_TTL", "soon"),
                _ => ("DATABASE_URL", "postgresql://ada@127.0.0.1:1/data"),
            };
            let launch =
                launch(&arguments, &database).envs(&[wrong, ("DB_POOL_TIMEOUT", "0.5"), ("DB_CONNECT_TIMEOUT", "1")]);
            let ended = match output {
                "full" => launch.stdout(full()).stderr(full()).run().await,
                _ => {
                    let (reader, writer) = pipe().unwrap();
                    drop(reader);
                    let writer = (writer.try_clone().unwrap(), writer);
                    launch.stdout(writer.0).stderr(writer.1).run().await
                }
            };
            assert_eq!(ended.code, Some(code), "{arguments:?} {output}");
        }
    }
}

#[tokio::test]
async fn a_pipe_that_is_full_and_does_not_block_gets_the_whole_result_in_the_end() {
    let (mut reader, mut writer) = pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let mut filled = 0;
    while let Ok(written) = writer.write(&[b' '; 4096]) {
        filled += written;
    }
    let process = Launch::new(&["openapi"]).stdout(writer).spawn();
    let reading = tokio::task::spawn_blocking(move || {
        // Most likely the program waits for space by now.
        reader.read_exact(&mut vec![0; filled / 2]).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    let ended = process.ended(SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str::<Value>(&reading.await.unwrap()).unwrap();
}
