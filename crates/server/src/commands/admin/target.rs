//! Which service is administered, and with which credentials.
//!
//! Invariant: what the command line says comes before the environment, and that before the settings. No message holds a key.

use std::{fs, net::IpAddr, path::Path};

use axum::http::HeaderValue;
use cenote_secret::Secret;

use super::arguments::Options;
use crate::{http::host_name_in, http_client::HttpUrl, settings::Settings, startup::as_reached_from_here};

/// The variables of the command. They are no settings, because the service does not read them.
const URL: &str = "CENOTE_URL";
const KEY: &str = "CENOTE_KEY";
const KEY_FILE: &str = "CENOTE_KEY_FILE";

/// A service to administer.
#[derive(Debug)]
pub(in crate::commands) struct Target {
    pub(in crate::commands) url: HttpUrl,
    /// The value of the header `Authorization`.
    pub(in crate::commands) credentials: Option<HeaderValue>,
}

/// Why it is not known which service is meant, or with which key.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoTarget {
    /// Without the text, which may hold a password.
    #[error("{URL}: the value {0}")]
    Url(String),
    #[error("{0} is not UTF-8")]
    NotText(&'static str),
    #[error(
        "PORT is 0, so the service took any free port; name its URL in the command or in {URL}; its log has the address"
    )]
    AnyPort,
    #[error("{KEY} and {KEY_FILE} are both set; keep one")]
    TwoKeys,
    #[error("cannot read the key in {0}: {1}")]
    KeyFile(String, std::io::Error),
    #[error("{0} holds no API key or token")]
    NotKey(String),
}

/// The value of an environment variable.
pub(super) type Variable<'a> = &'a dyn Fn(&'static str) -> Result<Option<String>, NoTarget>;

/// Returns the value of a variable of the process; an empty one counts as unset.
pub(super) fn variable(name: &'static str) -> Result<Option<String>, NoTarget> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(NoTarget::NotText(name)),
    }
}

/// Returns the URL that the command line or the environment names.
pub(super) fn named_url(options: &Options, variable: Variable<'_>) -> Result<Option<HttpUrl>, NoTarget> {
    match (&options.url, variable(URL)?) {
        (Some(url), _) => Ok(Some(url.clone())),
        (None, Some(text)) => text.parse().map(Some).map_err(NoTarget::Url),
        (None, None) => Ok(None),
    }
}

impl Target {
    /// Whether the key can be read on its way.
    pub(super) fn shows_its_key(&self) -> bool {
        self.credentials.is_some() && !self.url.is_tls() && !self.url.is_of_this_machine()
    }
}

/// Returns where this machine reaches a service with these settings.
pub(super) fn url_of(settings: &Settings) -> Result<HttpUrl, NoTarget> {
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let host = match settings.host.parse::<IpAddr>().map(as_reached_from_here) {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(address)) => address.to_string(),
        Err(_) => settings.host.clone(),
    };
    if settings.port == 0 {
        return Err(NoTarget::AnyPort);
    }
    let text = format!("{scheme}://{host}:{}", settings.port);
    let url: HttpUrl = text.parse().map_err(NoTarget::Url)?;
    // Certificates are for names, and the settings have an address.
    let named = settings.tls.as_ref().filter(|_| url.host().parse::<IpAddr>().is_ok());
    Ok(match named.and_then(|tls| host_name_in(&tls.certificate)) {
        Some(name) => url.with_tls_name(name),
        None => url,
    })
}

/// Returns the value of the header `Authorization`, if there is a key or token.
pub(super) fn credentials(options: &Options, variable: Variable<'_>) -> Result<Option<HeaderValue>, NoTarget> {
    if let Some(file) = &options.key_file {
        return in_file(file).map(Some);
    }
    match (variable(KEY)?, variable(KEY_FILE)?) {
        (Some(_), Some(_)) => Err(NoTarget::TwoKeys),
        (Some(key), None) => bearer(&Secret::new(key), KEY).map(Some),
        (None, Some(file)) => in_file(Path::new(&file)).map(Some),
        (None, None) => Ok(None),
    }
}

fn in_file(file: &Path) -> Result<HeaderValue, NoTarget> {
    let named = file.display().to_string();
    match fs::read_to_string(file) {
        Ok(key) => bearer(&Secret::new(key), &named),
        Err(error) => Err(NoTarget::KeyFile(named, error)),
    }
}

fn bearer(key: &Secret<String>, source: &str) -> Result<HeaderValue, NoTarget> {
    let key = key.expose().trim();
    let is_one_word = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::try_from(format!("Bearer {key}"));
    match value {
        Ok(mut value) if is_one_word => {
            value.set_sensitive(true);
            Ok(value)
        }
        _ => Err(NoTarget::NotKey(source.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::TlsConfig;

    fn options(url: Option<&str>) -> Options {
        Options {
            url: url.map(|url| url.parse().unwrap()),
            key_file: None,
            ca: None,
            certificate: None,
            timeout: Duration::from_secs(1),
            json: false,
        }
    }

    fn settings(host: &str, port: u16) -> Settings {
        Settings {
            host: host.to_owned(),
            port,
            ..Settings::default()
        }
    }

    fn among(set: &[(&str, &str)]) -> impl Fn(&'static str) -> Result<Option<String>, NoTarget> {
        let set: Vec<(String, String)> = set
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        move |name| {
            let found = set.iter().find(|(other, _)| other == name);
            Ok(found.map(|(_, value)| value.clone()))
        }
    }

    #[test]
    fn the_command_line_comes_before_the_environment() {
        let set = [(URL, "http://environment:1")];
        let url = |options, set: &[_]| named_url(&options, &among(set)).unwrap().map(|url| url.to_string());
        assert_eq!(
            url(options(Some("http://option:1")), &set).as_deref(),
            Some("http://option:1/")
        );
        assert_eq!(url(options(None), &set).as_deref(), Some("http://environment:1/"));
        assert_eq!(url(options(None), &[]), None);
        let wrong = named_url(&options(None), &among(&[(URL, "here")])).unwrap_err();
        assert!(wrong.to_string().starts_with("CENOTE_URL: the value "), "{wrong}");
    }

    #[test]
    fn the_settings_say_where_this_machine_reaches_the_service() {
        for (host, expected) in [
            ("0.0.0.0", "http://127.0.0.1:80/"),
            ("::", "http://[::1]:80/"),
            ("10.0.0.1", "http://10.0.0.1:80/"),
            ("cenote.internal", "http://cenote.internal:80/"),
        ] {
            assert_eq!(url_of(&settings(host, 80)).unwrap().to_string(), expected);
        }
        let any = url_of(&settings("127.0.0.1", 0)).unwrap_err();
        assert!(any.to_string().contains("CENOTE_URL"), "{any}");
    }

    #[test]
    fn with_tls_the_name_is_that_of_the_own_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let certificate = directory.path().join("certificate.pem");
        let (pem, _) = cenote_testing::Authority::new("an authority").issue("cenote.test");
        fs::write(&certificate, pem).unwrap();
        let with_tls = Settings {
            tls: Some(TlsConfig {
                key: certificate.clone(),
                certificate,
                clients: None,
                min_version: Default::default(),
            }),
            ..settings("0.0.0.0", 443)
        };
        let expected: HttpUrl = "https://127.0.0.1:443".parse().unwrap();
        assert_eq!(
            url_of(&with_tls).unwrap(),
            expected.with_tls_name("cenote.test".to_owned())
        );
    }

    #[test]
    fn a_key_is_a_word_from_one_place_and_is_never_shown() {
        let of = |set: &[(&str, &str)]| credentials(&options(None), &among(set));
        assert_eq!(of(&[]).unwrap(), None);
        let bearer = of(&[(KEY, "cnk_secret\n")]).unwrap().unwrap();
        assert_eq!(bearer, "Bearer cnk_secret");
        assert!(!format!("{bearer:?}").contains("cnk_secret"));
        for wrong in ["a secret", "a\nsecret", "geheim\u{e4}", " "] {
            let error = of(&[(KEY, wrong)]).unwrap_err().to_string();
            assert_eq!(error, "CENOTE_KEY holds no API key or token");
        }
        of(&[(KEY, "a"), (KEY_FILE, "b")]).unwrap_err();
        let missing = of(&[(KEY_FILE, "/none/such")]).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read the key in /none/such: "), "{missing}");
    }

    #[test]
    fn a_key_that_others_could_read_on_its_way_is_noticed() {
        for (url, shows) in [
            ("http://db.example", true),
            ("https://db.example", false),
            ("http://localhost", false),
        ] {
            let target = Target {
                url: url.parse().unwrap(),
                credentials: Some(HeaderValue::from_static("Bearer key")),
            };
            assert_eq!(target.shows_its_key(), shows, "{url}");
        }
    }
}
