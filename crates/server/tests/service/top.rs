//! `cenote top` against running services.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
    thread,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use serde_json::{Value, json};

use crate::support::{AT_ONCE, Launch, Process, Service, create_key, eventually, server};

fn top(service: &Service, arguments: &[&str]) -> Launch {
    let launch = Launch::new(&[&["top"], arguments].concat());
    launch.env("CENOTE_URL", &format!("http://{}", service.address))
}

#[tokio::test]
async fn the_figures_are_shown_once_in_words_and_as_json() {
    let service = Service::start(&[("CACHE_MODE", "off"), ("DB_POOL_MAX", "7")]).await;
    service.write("key", "value").await;
    let ended = top(&service, &["--once"]).run().await;
    assert_eq!((ended.code, &*ended.log), (Some(0), ""), "{ended:?}");
    let lines: Vec<_> = ended.output.lines().collect();
    let title = format!("cenote 0.1.0 at {}, up ", service.address);
    assert!(lines[0].starts_with(&title), "{lines:#?}");
    assert!(lines[1].starts_with("ok        Healthy: "), "{lines:#?}");
    let pool = lines.iter().find(|line| line.starts_with("pool "));
    assert!(pool.unwrap().contains(" of 7 in use, "), "{lines:#?}");
    let ended = top(&service, &["--once", "--json"]).run().await;
    let figures: Value = serde_json::from_str(&ended.output).unwrap();
    assert_eq!((ended.code, &figures["state"]["pool"]["max"]), (Some(0), &json!(7)));
    assert!(figures["row"]["t"].as_u64() > Some(1_700_000_000_000), "{figures}");
}

#[tokio::test]
async fn the_exit_code_tells_a_critical_verdict_from_figures_that_cannot_be_read() {
    let server = server("5").await;
    let settings = [("DB_POOL_MIN", "6"), ("DB_POOL_MAX", "6"), ("CACHE_MODE", "off")];
    let service = Service::start_on(&server, &settings).await;
    eventually("the server is full", async || {
        let ended = top(&service, &["--once"]).run().await;
        let is_told = ended.output.contains("CRITICAL  The database has as many connections");
        is_told.then(|| assert_eq!(ended.code, Some(3), "{ended:?}"))
    })
    .await;
    let nowhere = Launch::new(&["top", "--once", "http://127.0.0.1:1"]).run().await;
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.reason().contains("nothing answers"), "{nowhere:?}");
}

#[tokio::test]
async fn a_service_that_wants_a_key_is_watched_with_the_scope_metrics() {
    let service = Service::start(&[("AUTH", "keys")]).await;
    let ended = top(&service, &["--once"]).run().await;
    assert_eq!((ended.code, &*ended.output), (Some(1), ""), "{ended:?}");
    assert!(ended.reason().contains("it wants an API key or token"), "{ended:?}");
    for (scope, code) in [("metrics", 0), ("read", 1)] {
        let key = create_key(&service.database, scope).await;
        let ended = top(&service, &["--once"]).env("CENOTE_KEY", &key).run().await;
        assert_eq!(ended.code, Some(code), "{scope}: {ended:?}");
        assert!(!(ended.output + &ended.log).contains(&key));
    }
}

#[tokio::test]
async fn a_restart_of_the_service_is_survived() {
    let service = Service::start(&[("CACHE_MODE", "off"), ("SHUTDOWN_DELAY", "0")]).await;
    let port = service.address.port().to_string();
    let database = service.database.clone();
    let watching = top(&service, &["--json"]).spawn();
    let is_watched = async |service: &Service| {
        let mut events = service.watch().await;
        eventually("another client is connected", async || {
            let row = events.next_of("row").await;
            (row[22].as_u64() >= Some(2)).then_some(())
        })
        .await;
    };
    is_watched(&service).await;
    service.stop(AT_ONCE).await;
    let again = Service::start_with(&database, &[("CACHE_MODE", "off"), ("PORT", &port)]).await;
    is_watched(&again).await;
    watching.signal("TERM");
    let ended = watching.ended(AT_ONCE).await;
    let events: Vec<Value> = ended
        .output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let at = |name: &str| events.iter().position(|event| event.get(name).is_some());
    let lost = at("disconnected").unwrap_or_else(|| panic!("{events:?}"));
    assert_eq!(events[lost]["disconnected"], "the service is stopping");
    assert_eq!(at("start"), Some(0));
    let has_begun_again = events[lost..].iter().any(|event| event.get("start").is_some());
    assert!(has_begun_again, "{events:?}");
}

/// A terminal of 80 columns and 24 rows.
struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn open() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave: OwnedFd = File::options().read(true).write(true).open(path).unwrap().into();
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).unwrap();
        let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (mut reader, all) = (File::from(master.try_clone().unwrap()), shown.clone());
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut chunk) {
                all.lock().unwrap().extend_from_slice(&chunk[..n]);
            }
        });
        Self { master, slave, shown }
    }

    fn top(&self, service: &Service) -> Process {
        let end = || self.slave.try_clone().unwrap();
        let launch = top(service, &[]).env("TERM", "xterm");
        launch.stdin(end()).stdout(end()).spawn()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn press(&self, key: &str) {
        let mut keyboard = File::from(self.master.try_clone().unwrap());
        keyboard.write_all(key.as_bytes()).unwrap();
    }

    /// Whether lines are edited and keys are echoed, as a shell wants it.
    fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    async fn shows(&self, text: &str) {
        eventually(&format!("{text:?} is shown"), async || {
            self.text().contains(text).then_some(())
        })
        .await;
    }

    /// It has left the screen and restored the modes.
    async fn is_restored(&self) {
        self.shows("\u{1b}[?1049h").await;
        self.shows("\u{1b}[?1049l").await;
        assert!(self.is_cooked());
    }
}

#[tokio::test]
async fn the_screen_shows_the_verdict_and_a_key_or_a_signal_restores_the_terminal() {
    let service = Service::start(&[("CACHE_MODE", "off")]).await;
    service.write("key", "value").await;
    for key in ["q", "\u{3}"] {
        let terminal = Terminal::open();
        let watching = terminal.top(&service);
        terminal.shows("Healthy:").await;
        assert!(!terminal.is_cooked());
        terminal.press(key);
        let ended = watching.ended(AT_ONCE).await;
        assert_eq!((ended.code, &*ended.log), (Some(0), ""), "{key:?}");
        terminal.is_restored().await;
    }
    let terminal = Terminal::open();
    let watching = terminal.top(&service);
    terminal.shows("Healthy:").await;
    watching.signal("TERM");
    assert_eq!(watching.ended(AT_ONCE).await.code, Some(0));
    terminal.is_restored().await;
}

#[tokio::test]
async fn the_screen_says_for_how_long_the_service_has_been_away() {
    let service = Service::start(&[("CACHE_MODE", "off"), ("SHUTDOWN_DELAY", "0")]).await;
    let terminal = Terminal::open();
    let watching = terminal.top(&service);
    terminal.shows("requests").await;
    service.stop(AT_ONCE).await;
    terminal.shows("disconnected for").await;
    terminal.press("q");
    assert_eq!(watching.ended(AT_ONCE).await.code, Some(0));
    terminal.is_restored().await;
}
