//! Writes a configuration as a connection string. Invariant: it is read back as the same, without the password, or refused.

use std::fmt::Write as _;

use tokio_postgres::config::{ChannelBinding, Host, LoadBalanceHosts, SslNegotiation};

use crate::{Config, ConnectionString, InvalidUrl, connect::tls::Roots};

/// Returns a value as it stands in a list of options.
pub(crate) fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ',' | ':' | '/');
    match !value.is_empty() && value.chars().all(is_plain) {
        true => value.to_owned(),
        false => format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")),
    }
}

/// Writes the options of a configuration, without the password, as `host=… user=…`.
///
/// # Errors
///
/// One of them cannot be expressed.
pub(crate) fn without_password(config: &Config) -> Result<String, InvalidUrl> {
    let mut text = String::new();
    for (name, value) in options(config) {
        let separator = if text.is_empty() { "" } else { " " };
        let _infallible = write!(text, "{separator}{name}={}", quoted(&value));
    }
    if text.is_empty() {
        return Ok(text);
    }
    let mut read = text.parse::<ConnectionString>()?.parts()?;
    if let Some(password) = config.server.get_password() {
        read.server.password(password);
    }
    // Both places may say it.
    let mut server = config.server.clone();
    server.target_session_attrs(read.server.get_target_session_attrs());
    match read.server == server && read.tls == config.tls && read.target_session == config.target_session() {
        true => Ok(text),
        false => Err("has settings that a connection string cannot express".into()),
    }
}

fn options(config: &Config) -> Vec<(&'static str, String)> {
    let server = &config.server;
    let mut options = Vec::new();
    let mut add = |name, value: Option<String>| options.extend(value.map(|value| (name, value)));
    let hosts = server.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    add("host", list(hosts));
    add("hostaddr", list(server.get_hostaddrs().iter().map(ToString::to_string)));
    add("port", list(server.get_ports().iter().map(ToString::to_string)));
    add("user", server.get_user().map(str::to_owned));
    add("dbname", server.get_dbname().map(str::to_owned));
    add("options", server.get_options().map(str::to_owned));
    add("application_name", server.get_application_name().map(str::to_owned));
    add(
        "connect_timeout",
        server.get_connect_timeout().map(|time| time.as_secs().to_string()),
    );
    add(
        "tcp_user_timeout",
        server.get_tcp_user_timeout().map(|time| time.as_millis().to_string()),
    );
    let fresh = tokio_postgres::Config::new();
    add("keepalives", (!server.get_keepalives()).then(|| "0".to_owned()));
    let idle = server.get_keepalives_idle();
    add(
        "keepalives_idle",
        (idle != fresh.get_keepalives_idle()).then(|| idle.as_secs().to_string()),
    );
    add(
        "keepalives_interval",
        server.get_keepalives_interval().map(|time| time.as_secs().to_string()),
    );
    add(
        "keepalives_count",
        server.get_keepalives_retries().map(|count| count.to_string()),
    );
    let binding = match server.get_channel_binding() {
        ChannelBinding::Disable => Some("disable"),
        ChannelBinding::Require => Some("require"),
        _ => None,
    };
    add("channel_binding", binding.map(str::to_owned));
    let is_random = server.get_load_balance_hosts() == LoadBalanceHosts::Random;
    add("load_balance_hosts", is_random.then(|| "random".to_owned()));
    let is_direct = server.get_ssl_negotiation() == SslNegotiation::Direct;
    add("sslnegotiation", is_direct.then(|| "direct".to_owned()));
    let tls = &config.tls;
    add("sslmode", tls.mode_word(server.get_ssl_mode()).map(str::to_owned));
    let roots = tls.roots.as_ref().map(|roots| match roots {
        Roots::System => "system".to_owned(),
        Roots::File(path) => path.display().to_string(),
    });
    add("sslrootcert", roots);
    if let Some(certificate) = &tls.certificate {
        add("sslcert", Some(certificate.certificate.display().to_string()));
        add("sslkey", Some(certificate.key.display().to_string()));
    }
    let target = config.target_session().as_str();
    add("target_session_attrs", (target != "any").then(|| target.to_owned()));
    options
}

fn list(items: impl Iterator<Item = String>) -> Option<String> {
    let items: Vec<_> = items.collect();
    (!items.is_empty()).then(|| items.join(","))
}
