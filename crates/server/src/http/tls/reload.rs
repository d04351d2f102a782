//! The configuration in force, and its reload when the files change.
//!
//! Invariant: a failed reload changes nothing except the counters, and one content is tried once. Contents are compared
//! instead of watching the files: that works for a mounted secret whose symbolic link is swapped, and for network file
//! systems.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::config::TlsConfig;
use super::files::{Contents, Digest, Loaded, TlsError};

/// How often the files are read.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How long changed files must stay the same before they are loaded: a certificate and its key are written one after the
/// other, and neither at once.
const SETTLE: Duration = Duration::from_secs(1);
/// A certificate that expires within this time makes the service `degraded`.
const EXPIRES_SOON: Duration = Duration::from_secs(72 * 3600);

/// TLS as it is configured now. Clones share everything.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    server: ArcSwap<ServerConfig>,
    /// Held while the files are read and loaded, in a thread that may block, so that an older content never replaces a
    /// newer one.
    last: Mutex<Attempt>,
    /// Seconds since 1970.
    expires: AtomicU64,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
}

/// The files in use, and their last contents that were loaded or refused.
struct Attempt {
    config: TlsConfig,
    digest: Digest,
    failed: bool,
}

/// Files that were loaded and are not in force yet.
#[must_use = "nothing changes before it is adopted"]
pub struct PreparedTls {
    shared: Arc<Shared>,
    config: TlsConfig,
    digest: Digest,
    /// The contents of the last attempt before.
    before: Digest,
    /// `None`: they are in force already.
    loaded: Option<Loaded>,
}

/// What a look at the files found.
enum Look {
    /// They are those of the last attempt, or have just been loaded or refused.
    Settled,
    /// They have changed since the last look, and may still be changing.
    Changing(Digest),
}

/// Figures about the certificate in force. Counters count from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsStats {
    /// When the certificate or one of its chain expires, in seconds since 1970.
    pub expires: u64,
    /// Reloads that replaced the certificate.
    pub reloads: u64,
    /// Reloads that failed, after which the old certificate stayed in force.
    pub failed_reloads: u64,
}

impl TlsStats {
    /// Returns when the certificate or one of its chain expires.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.expires)
    }

    /// Returns the hours until the certificate expires, if they are fewer than 72.
    #[must_use]
    pub fn expires_soon(&self, now: SystemTime) -> Option<u64> {
        let left = self.expires_at().duration_since(now).unwrap_or_default();
        (left < EXPIRES_SOON).then_some(left.as_secs() / 3600)
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files. It blocks, so call it at the start only.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if a file cannot be read, does not parse, or does not belong to the others, and if a certificate is
    /// not valid now.
    pub fn load(config: TlsConfig) -> Result<Self, TlsError> {
        let contents = Contents::read(&config);
        let digest = contents.digest();
        let Loaded { server, expires } = contents.load(&config, SystemTime::now())?;
        Ok(Self(Arc::new(Shared {
            server: ArcSwap::new(server),
            last: Mutex::new(Attempt {
                config,
                digest,
                failed: false,
            }),
            expires: AtomicU64::new(seconds(expires)),
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
        })))
    }

    /// Returns the files and rules in use.
    #[must_use]
    pub fn config(&self) -> TlsConfig {
        self.0.last().config.clone()
    }

    /// Reads files, perhaps others than before, to replace the certificate and the authorities of clients by them.
    ///
    /// # Errors
    ///
    /// As of [`Tls::load`]; also logged and counted.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn prepare(&self, config: TlsConfig) -> Result<PreparedTls, TlsError> {
        let shared = Arc::clone(&self.0);
        let place = config.certificate.clone();
        let prepared = spawn_blocking(move || shared.prepare(config)).await;
        // Fails only on a runtime that is shutting down.
        prepared.unwrap_or_else(|error| Err(TlsError::new(&place, io::Error::from(error))))
    }

    /// Reloads whenever the files have changed. Never ends.
    pub(crate) async fn follow_files(&self) {
        let mut seen = None;
        loop {
            sleep(CHECK_INTERVAL).await;
            loop {
                let shared = Arc::clone(&self.0);
                match spawn_blocking(move || shared.look(seen)).await {
                    Ok(Look::Settled) => break,
                    Ok(Look::Changing(digest)) => seen = Some(digest),
                    // The runtime is shutting down.
                    Err(_) => return,
                }
                sleep(SETTLE).await;
            }
        }
    }

    /// Returns the figures about the certificate in force.
    #[must_use]
    pub fn stats(&self) -> TlsStats {
        let Shared {
            expires,
            reloads,
            failed_reloads,
            ..
        } = &*self.0;
        TlsStats {
            expires: expires.load(Relaxed),
            reloads: reloads.load(Relaxed),
            failed_reloads: failed_reloads.load(Relaxed),
        }
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.0.server.load_full().into()
    }
}

impl Shared {
    /// Reads the files, and loads them if they have changed and two looks agree.
    fn look(&self, seen: Option<Digest>) -> Look {
        let mut last = self.last();
        let contents = Contents::read(&last.config);
        let digest = contents.digest();
        if digest != last.digest {
            if seen != Some(digest) {
                return Look::Changing(digest);
            }
            let config = last.config.clone();
            // Errors are logged and counted.
            if let Ok(loaded) = self.load(contents, &config, &mut last) {
                self.adopt(config, digest, loaded, &mut last);
            }
        }
        Look::Settled
    }

    /// Reads these files, and loads them unless they are in force already.
    fn prepare(self: Arc<Self>, config: TlsConfig) -> Result<PreparedTls, TlsError> {
        let mut last = self.last();
        let contents = Contents::read(&config);
        let digest = contents.digest();
        let is_in_force = config == last.config && digest == last.digest && !last.failed;
        let loaded = match is_in_force {
            true => None,
            false => Some(self.load(contents, &config, &mut last)?),
        };
        let before = last.digest;
        drop(last);
        Ok(PreparedTls {
            shared: self,
            config,
            digest,
            before,
            loaded,
        })
    }

    fn load(&self, contents: Contents, config: &TlsConfig, last: &mut Attempt) -> Result<Loaded, TlsError> {
        let digest = contents.digest();
        let loaded = contents.load(config, SystemTime::now());
        if let Err(error) = &loaded {
            if *config == last.config {
                (last.digest, last.failed) = (digest, true);
            }
            self.failed_reloads.fetch_add(1, Relaxed);
            tracing::error!(%error, "the changed TLS files cannot be used; those loaded before stay in force");
        }
        loaded
    }

    fn adopt(&self, config: TlsConfig, digest: Digest, loaded: Loaded, last: &mut Attempt) {
        let Loaded { server, expires } = loaded;
        self.server.store(server);
        self.expires.store(seconds(expires), Relaxed);
        self.reloads.fetch_add(1, Relaxed);
        tracing::info!(
            file = %config.certificate.display(),
            expires = %httpdate::fmt_http_date(expires),
            "the TLS certificate was reloaded"
        );
        *last = Attempt {
            config,
            digest,
            failed: false,
        };
    }

    /// Panics under this lock leave only an old attempt, so a poisoned one is used on.
    fn last(&self) -> MutexGuard<'_, Attempt> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PreparedTls {
    /// Lets the files be in force. Returns whether they were not before.
    pub fn adopt(self) -> bool {
        let Some(loaded) = self.loaded else {
            return false;
        };
        let mut last = self.shared.last();
        // A later look may have loaded what the files hold by now.
        if last.config != self.config || last.digest == self.before {
            self.shared.adopt(self.config, self.digest, loaded, &mut last);
        }
        true
    }
}

/// Shows no key.
impl std::fmt::Debug for PreparedTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedTls").finish_non_exhaustive()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cenote_testing::Authority;
    use tempfile::TempDir;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::http::tls::TlsVersion;

    struct Files {
        directory: TempDir,
        authority: Authority,
    }

    impl Files {
        fn new() -> (Self, Tls) {
            let files = Self {
                directory: tempfile::tempdir().unwrap(),
                authority: Authority::new("an authority"),
            };
            let (certificate, key) = files.authority.issue("cenote.test");
            files.write("certificate.pem", &certificate);
            files.write("key.pem", &key);
            let tls = Tls::load(TlsConfig {
                certificate: files.directory.path().join("certificate.pem"),
                key: files.directory.path().join("key.pem"),
                clients: None,
                min_version: TlsVersion::Tls12,
            });
            (files, tls.unwrap())
        }

        fn write(&self, name: &str, content: &str) {
            fs::write(self.directory.path().join(name), content).unwrap();
        }
    }

    /// Waits until the figures change, and returns what changed and how long that took.
    async fn next(tls: &Tls, before: TlsStats) -> (u64, u64, Duration) {
        let begun = Instant::now();
        while tls.stats() == before {
            sleep(Duration::from_millis(100)).await;
        }
        let TlsStats {
            reloads,
            failed_reloads,
            ..
        } = tls.stats();
        (
            reloads - before.reloads,
            failed_reloads - before.failed_reloads,
            begun.elapsed(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn changed_files_are_loaded_once_they_have_settled() {
        let (files, tls) = Files::new();
        let following = tls.clone();
        let following = tokio::spawn(async move { following.follow_files().await });
        for _ in 0..2 {
            let before = tls.stats();
            let (certificate, key) = files.authority.issue("cenote.test");
            files.write("certificate.pem", &certificate);
            files.write("key.pem", &key);
            let (reloads, failures, took) = next(&tls, before).await;
            assert_eq!((reloads, failures), (1, 0));
            assert!(took < CHECK_INTERVAL + 2 * SETTLE, "{took:?}");
        }
        following.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn files_that_stay_useless_are_refused_once() {
        let (files, tls) = Files::new();
        let following = tls.clone();
        let following = tokio::spawn(async move { following.follow_files().await });
        let before = tls.stats();
        files.write("key.pem", "");
        let (reloads, failures, _) = next(&tls, before).await;
        assert_eq!((reloads, failures), (0, 1));
        let again = timeout(10 * CHECK_INTERVAL, next(&tls, tls.stats())).await;
        assert!(again.is_err(), "{again:?}");
        following.abort();
    }

    #[tokio::test]
    async fn files_that_change_between_two_looks_are_left_alone() {
        let (files, tls) = Files::new();
        let mut seen = None;
        for content in ["a", "b", "c"] {
            files.write("key.pem", content);
            let Look::Changing(digest) = tls.0.look(seen) else {
                panic!("it was loaded");
            };
            seen = Some(digest);
        }
        assert_eq!(tls.stats().failed_reloads, 0);
        assert!(matches!(tls.0.look(seen), Look::Settled));
        assert_eq!(tls.stats().failed_reloads, 1);
    }

    #[test]
    fn a_certificate_expires_soon_in_its_last_72_hours() {
        const HOUR: u64 = 3600;
        let stats = |expires| TlsStats {
            expires,
            reloads: 0,
            failed_reloads: 0,
        };
        let now = UNIX_EPOCH + Duration::from_secs(1000 * HOUR);
        for (expires, soon) in [
            (1072 * HOUR, None),
            (1072 * HOUR - 1, Some(71)),
            (1000 * HOUR + 1, Some(0)),
            (900 * HOUR, Some(0)),
        ] {
            assert_eq!(stats(expires).expires_soon(now), soon);
        }
    }
}
