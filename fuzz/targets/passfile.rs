//! Passfiles: none makes the reader panic, an escaped entry is found, and a line of another server never.
#![no_main]

use arbitrary::Arbitrary;
use cenote_postgres::passfile_password;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Passfile<'a> {
    text: &'a [u8],
    host: &'a str,
    port: u16,
    database: &'a str,
    user: &'a str,
    password: &'a str,
}

fuzz_target!(|it: Passfile<'_>| {
    let Passfile { text, host, port, database, user, password } = it;
    let _found = passfile_password(text, host, port, database, user);
    if [host, database, user, password].iter().any(|field| field.contains(['\0', '\r', '\n'])) || host.starts_with('#') {
        return;
    }
    let escape = |field: &str| field.replace('\\', "\\\\").replace(':', "\\:");
    let line = format!("{}:{port}:{}:{}:{}", escape(host), escape(database), escape(user), escape(password));
    let found = passfile_password(line.as_bytes(), host, port, database, user);
    assert_eq!(found.as_deref(), Some(password.as_bytes()));
    let other = format!("{user}x");
    let is_wildcard = [host, database, user].contains(&"*");
    assert!(is_wildcard || passfile_password(line.as_bytes(), host, port, database, &other).is_none());
});
