//! Finds a password in a passfile, as libpq does: `host:port:database:user:password` in each line.
//!
//! Pure: it reads no file. Invariant: the first line that matches decides, as in libpq's `passwordFromFile`.

use std::fmt;

/// What a line must say of the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) user: String,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.host, self.port, self.database, self.user)
    }
}

/// Returns the password of the first line that matches.
pub(crate) fn password(text: &[u8], wanted: &Wanted) -> Option<Vec<u8>> {
    let port = wanted.port.to_string();
    text.split(|&byte| byte == b'\n').find_map(|line| {
        // A zero byte ends the text of a line for libpq.
        let line = line.split(|&byte| byte == 0).next().unwrap_or_default();
        let line = trim_line_ends(line);
        if line.first() == Some(&b'#') {
            return None;
        }
        let rest = after(line, wanted.host.as_bytes())?;
        let rest = after(rest, port.as_bytes())?;
        let rest = after(rest, wanted.database.as_bytes())?;
        Some(unescaped(after(rest, wanted.user.as_bytes())?))
    })
}

fn trim_line_ends(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r'] = line {
        line = rest;
    }
    line
}

/// Returns what follows the first field and its colon, if the field is `*` or, without its backslashes, `wanted`.
fn after<'a>(line: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let (mut line, mut wanted) = (line.iter(), wanted.iter());
    loop {
        let mut byte = line.next()?;
        let next = wanted.next();
        if *byte == b':' && next.is_none() {
            return Some(line.as_slice());
        }
        if *byte == b'\\' {
            byte = line.next()?;
        }
        if next != Some(byte) {
            return None;
        }
    }
}

/// Returns a field without its backslashes, up to a colon without one.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut password = Vec::new();
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b':' => break,
            // One at the end stands for itself.
            b'\\' => password.push(bytes.next().unwrap_or(b'\\')),
            byte => password.push(byte),
        }
    }
    password
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<String> {
        let wanted = Wanted {
            host: "db:1".to_owned(),
            port: 5432,
            database: "shop".to_owned(),
            user: "a\\b".to_owned(),
        };
        password(text.as_bytes(), &wanted).map(|it| String::from_utf8(it).unwrap())
    }

    #[test]
    fn the_first_line_that_matches_decides() {
        assert_eq!(
            found("#db\\:1:*:*:*:no\n\ndb:*:*:*:no\n*:5432:*:a\\\\b:yes\n*:*:*:*:no"),
            Some("yes".into())
        );
        assert_eq!(
            found("db\\:1:5432:shop:a\\\\b:p\\:q\\\\r:no\r\n"),
            Some("p:q\\r".into())
        );
        assert_eq!(found("*:*:*:*:ends with\\"), Some("ends with\\".into()));
        assert_eq!(found("*:*:*:*:"), Some(String::new()));
        for text in [
            "",
            "db\\:1:5432:shop:a\\\\b",
            "*:5433:*:*:no",
            " *:*:*:*:no",
            "**:*:*:*:no",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn no_password_is_printed_with_what_is_wanted() {
        let wanted = Wanted {
            host: "db".to_owned(),
            port: 1,
            database: "d".to_owned(),
            user: "u".to_owned(),
        };
        assert_eq!(format!("{wanted:?}"), "db:1:d:u");
    }
}
