//! Starts what the measurements need: a private PostgreSQL with a database for each service, all with the same data,
//! and a private Redis for each service that has its cache there.
//!
//! Invariant: every process ends with its handle, also after an error or an interrupt.

use std::{
    env,
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use cenote_local::PostgresServer;
use cenote_testing::RedisServer;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::sleep,
};
use tokio_postgres::NoTls;

use super::{
    connection::Connection,
    outcome::Outcome,
    services::{Cache, Credentials, Program, Service},
    target::Target,
    workload::{self, KEYS, USERS},
};

/// The database that all others are copied from.
const TEMPLATE: &str = "template";
/// How long a service may take to start.
const START: Duration = Duration::from_secs(30);
/// Commits wait for the disk, as in production. Autovacuum is off because it would run during some measurements;
/// dead rows are removed before each one instead.
const SETTINGS: [(&str, &str); 5] = [
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "256MB"),
    ("max_connections", "200"),
    ("autovacuum", "off"),
];

/// The database server, and where the programs are.
#[derive(Debug)]
pub(super) struct Setup {
    postgres: PostgresServer,
    programs: PathBuf,
    /// The services' working directory, and their logs.
    directory: TempDir,
}

/// A running service. Dropping it kills it.
#[derive(Debug)]
pub(super) struct RunningService {
    /// What it is.
    pub(super) service: &'static Service,
    /// Where it listens, and what requests to it show.
    pub(super) target: Target,
    /// Its process.
    pub(super) pid: u32,
    process: Child,
    /// One per service: otherwise a service would find the keys of another one.
    redis: Option<RedisServer>,
}

impl Setup {
    /// Starts the server and loads the data. Expects the programs `cenote` and `cenote-rivals` in the directory of this
    /// one.
    ///
    /// # Errors
    ///
    /// A program is missing, or the server does not start.
    pub(super) async fn start() -> Outcome<Self> {
        let programs = env::current_exe()?;
        let programs = programs.parent().unwrap_or(Path::new("."));
        for program in ["cenote", "cenote-rivals"] {
            let program = programs.join(program);
            if !program.is_file() {
                let program = program.display();
                return Err(format!("{program} is missing; build the whole workspace").into());
            }
        }
        let mut postgres = PostgresServer::temporary();
        for (name, value) in SETTINGS {
            postgres = postgres.setting(name, value);
        }
        let setup = Self {
            postgres: postgres.start().await?,
            programs: programs.to_owned(),
            directory: TempDir::new()?,
        };
        setup.load().await?;
        Ok(setup)
    }

    /// PostgreSQL's process, the root of its tree.
    #[must_use]
    pub(super) fn postgres_pid(&self) -> Option<u32> {
        self.postgres.pid()
    }

    /// PostgreSQL's version.
    #[must_use]
    pub(super) fn postgres_version(&self) -> &str {
        self.postgres.version()
    }

    /// Today's date, by PostgreSQL.
    ///
    /// # Errors
    ///
    /// PostgreSQL cannot be used.
    pub(super) async fn date(&self) -> Outcome<String> {
        let client = self.connect(TEMPLATE).await?;
        let today = "SELECT (now() AT TIME ZONE 'UTC')::date::text";
        Ok(client.query_one(today, &[]).await?.get(0))
    }

    /// Lets `cenote migrate` make the tables and fills them.
    async fn load(&self) -> Outcome<()> {
        self.postgres.create_database(TEMPLATE).await?;
        self.cenote(TEMPLATE, &["migrate"]).await?;
        let last = KEYS - 1;
        self.execute(
            TEMPLATE,
            &[
                &format!(
                    "INSERT INTO kv (key, value) \
                     SELECT 'key-' || lpad(i::text, 5, '0'), md5(i::text) || md5(i::text) \
                     FROM generate_series(0, {last}) AS i"
                ),
                &format!(
                    "INSERT INTO users (name, email) \
                     SELECT 'User ' || i, 'user' || i || '@example.org' \
                     FROM generate_series(1, {USERS}) AS i"
                ),
                "VACUUM (ANALYZE)",
            ],
        )
        .await
    }

    /// Creates an API key with the scopes that clients need.
    async fn create_key(&self, database: &str) -> Outcome<String> {
        let arguments = ["key", "create", "--name", "benchmark", "--scope", "read,write"];
        let key = self.cenote(database, &arguments).await?;
        Ok(key.trim().to_owned())
    }

    /// Runs a command of cenote on a database, and returns its standard output.
    async fn cenote(&self, database: &str, arguments: &[&str]) -> Outcome<String> {
        let mut command = self.command("cenote");
        command
            .args(arguments)
            .env("DATABASE_URL", self.postgres.url_for(database));
        let done = command.output().await?;
        match done.status.success() {
            true => Ok(String::from_utf8(done.stdout)?),
            false => {
                let said = String::from_utf8_lossy(&done.stderr);
                Err(format!("cenote {}: {}", arguments.join(" "), said.trim()).into())
            }
        }
    }

    /// Starts a service on a fresh copy of the data, and returns when it answers.
    ///
    /// # Errors
    ///
    /// It ends, or does not answer in time. The error has its log.
    pub(super) async fn start_service(
        &self,
        service: &'static Service,
        environment: &[(&str, String)],
    ) -> Outcome<RunningService> {
        let name = service.name;
        self.execute(
            "postgres",
            &[
                &format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"),
                &format!("CREATE DATABASE \"{name}\" TEMPLATE {TEMPLATE}"),
            ],
        )
        .await?;
        let port = free_port()?;
        let mut command = match service.program {
            Program::Cenote(settings) => {
                let mut command = self.command("cenote");
                command.arg("serve").envs(settings.iter().copied());
                command.env("LOG", "warn");
                command
            }
            Program::Rival(name) => {
                let mut command = self.command("cenote-rivals");
                command.arg(name);
                command
            }
        };
        let key = match service.credentials {
            Credentials::Key => self.create_key(name).await?,
            Credentials::Nothing | Credentials::WrongKey | Credentials::Token => String::new(),
        };
        command
            .env("PORT", port.to_string())
            .env("DATABASE_URL", self.postgres.url_for(name))
            .envs(environment.iter().map(|(name, value)| (name, value)));
        let redis = match service.cache {
            Cache::Redis => Some(RedisServer::temporary().start().await?),
            Cache::Off | Cache::Near => None,
        };
        if let Some(redis) = &redis {
            command.env("REDIS_URL", redis.url());
        }
        let log = self.directory.path().join(format!("{name}.log"));
        let process = command.stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        let mut running = RunningService {
            service,
            target: Target::new(service, (Ipv4Addr::LOCALHOST, port).into(), &key)?,
            pid: process.id().ok_or("the service has ended")?,
            process,
            redis,
        };
        match running.answers().await {
            Ok(()) => Ok(running),
            Err(error) => {
                let said = fs::read_to_string(&log)?;
                Err(format!("{name}: {error}\n{}", said.trim()).into())
            }
        }
    }

    /// Vacuums a service's database and writes a checkpoint, so that every measurement begins in the same state.
    ///
    /// # Errors
    ///
    /// The database cannot be used.
    pub(super) async fn settle(&self, service: &Service) -> Outcome<()> {
        self.execute(service.name, &["VACUUM", "CHECKPOINT"]).await
    }

    /// Runs statements in a database.
    async fn execute(&self, database: &str, statements: &[&str]) -> Outcome<()> {
        let client = self.connect(database).await?;
        for statement in statements {
            client.batch_execute(statement).await?;
        }
        Ok(())
    }

    /// A connection to a database.
    ///
    /// # Errors
    ///
    /// The database cannot be used.
    pub(super) async fn connect(&self, database: &str) -> Outcome<tokio_postgres::Client> {
        let url = self.postgres.url_for(database);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// One of our programs, without the environment of this process.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .env_clear()
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        for name in ["HOME", "PATH", "TMPDIR"] {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// Ends the server and waits for it.
    pub(super) async fn stop(self) -> Outcome<()> {
        Ok(self.postgres.stop().await?)
    }
}

impl RunningService {
    async fn answers(&mut self) -> Outcome<()> {
        let mut request = Vec::new();
        workload::read(0, &mut request);
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Err(format!("ended at its start, {status}").into());
            }
            if begun.elapsed() > START {
                return Err("does not answer".into());
            }
            if let Ok(mut connection) = Connection::open(&self.target).await {
                let head = connection.ask(&request).await;
                if head.is_ok_and(|head| head.status == self.target.answer) {
                    return Ok(());
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its Redis's process, if it has one.
    pub(super) fn redis_pid(&self) -> Option<u32> {
        self.redis.as_ref().and_then(RedisServer::pid)
    }

    /// Kills it and waits for its end.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub(super) async fn end(mut self) -> Outcome<()> {
        self.process.kill().await?;
        if let Some(redis) = &self.redis {
            redis.stop().await?;
        }
        Ok(())
    }
}

/// A port that was free a moment ago.
fn free_port() -> std::io::Result<u16> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
