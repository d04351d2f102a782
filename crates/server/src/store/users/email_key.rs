//! The key by which e-mail addresses are compared. It follows Unicode and the standards of e-mail, not the database's
//! locale.
//!
//! Invariant: a key is ASCII, so that every encoding can store it. The key of an ASCII address is the address in lower case,
//! which the index computes itself; only other addresses have a stored key.
//!
//! - The domain: RFC 5321 ignores its case, and IDNA decides which names are the same.
//! - The local part is compared without case, by Unicode's simple case folding, which is the same in every language: `ẞ` is
//!   `ß` and `ς` is `σ`, but `ß` is not `ss`, `ı` is not `i`, and `İ` is an `i` with a dot above.
//! - Characters that are composed in different ways are the same (canonical equivalence).

use percent_encoding::{CONTROLS, utf8_percent_encode};
use tokio_postgres::{Error, GenericClient};
use unicode_normalization::UnicodeNormalization;

use crate::store::SchemaName;

/// Makes addresses unique.
const INDEX: &str = "CREATE UNIQUE INDEX cenote_users_email \
     ON {schema}.users (coalesce(email_key, lower(email::text COLLATE \"C\")))";
/// The indexed expression as the catalog shows it; the second is that of a `varchar` column.
pub(in crate::store) const INDEXED: [&str; 2] = [
    "COALESCE(email_key, lower(email COLLATE \"C\"))",
    "COALESCE(email_key, lower(email::text COLLATE \"C\"))",
];
/// Stops inserts until the transaction ends, so that no address is added while keys are computed. Reads continue.
const LOCK: &str = "LOCK TABLE {schema}.users IN SHARE ROW EXCLUSIVE MODE";
/// The addresses that need a stored key. `COLLATE "C"` compares bytes, so that the range is ASCII in every locale.
const NOT_ASCII: &str = "SELECT id::bigint, email::text FROM {schema}.users \
     WHERE email_key IS NULL AND email::text COLLATE \"C\" ~ '[^ -~]'";
/// Stores keys. `$1`: ids, `$2`: their keys.
const FILL: &str = "UPDATE {schema}.users SET email_key = filled.key \
     FROM unnest($1::bigint[], $2::text[]) AS filled (id, key) WHERE users.id = filled.id";
/// Keeps users whose address is also that of an older user, as an index with another rule allowed. Each but the oldest gets a
/// key with a blank, which no address has.
const SEPARATE_DUPLICATES: &str = "UPDATE {schema}.users SET email_key = same.key || ' ' || users.id \
     FROM (SELECT id, key, row_number() OVER (PARTITION BY key ORDER BY id) AS place \
     FROM (SELECT id, coalesce(email_key, lower(email::text COLLATE \"C\")) AS key FROM {schema}.users) AS keyed) AS same \
     WHERE same.id = users.id AND same.place > 1";

/// Returns the key of an address that is not ASCII; `None` for an ASCII address.
pub(super) fn key(email: &str) -> Option<String> {
    if email.is_ascii() {
        return None;
    }
    let (local, domain) = email.rsplit_once('@').unwrap_or((email, ""));
    let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| ascii(domain));
    Some(format!("{}@{domain}", ascii(local)))
}

/// Folds the case of a text and percent-encodes what is not ASCII. The escapes have upper-case digits, which folded text
/// never has, so different texts stay different.
fn ascii(text: &str) -> String {
    // In the order of Unicode's definition D145, canonical caseless matching.
    let folded: String = text.nfd().map(fold).nfc().collect();
    utf8_percent_encode(&folded, CONTROLS).to_string()
}

/// Folds the case of a character: Unicode's simple case folding, by way of its upper case.
fn fold(c: char) -> char {
    // Its upper case is `I`, but case folding keeps the dotless letter apart from `i`.
    if c == 'ı' {
        return c;
    }
    let upper = single(c.to_uppercase()).unwrap_or(c);
    single(upper.to_lowercase()).unwrap_or(upper)
}

/// Returns the character, if there is exactly one.
fn single(mut characters: impl ExactSizeIterator<Item = char>) -> Option<char> {
    match characters.len() {
        1 => characters.next(),
        _ => None,
    }
}

/// Stores the keys of existing users and adds the index, in the caller's transaction. Returns the number of users whose
/// address is also that of an older user.
pub(in crate::store) async fn prepare(transaction: &impl GenericClient, schema: &SchemaName) -> Result<u64, Error> {
    transaction.batch_execute(&schema.fill(LOCK)).await?;
    let rows = transaction.query(&schema.fill(NOT_ASCII), &[]).await?;
    let keyed = rows
        .iter()
        .filter_map(|row| Some((row.get::<_, i64>(0), key(row.get(1))?)));
    let (ids, keys): (Vec<i64>, Vec<String>) = keyed.unzip();
    transaction.execute(&schema.fill(FILL), &[&ids, &keys]).await?;
    let duplicates = transaction.execute(&schema.fill(SEPARATE_DUPLICATES), &[]).await?;
    transaction.batch_execute(&schema.fill(INDEX)).await?;
    Ok(duplicates)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The indexed expression.
    fn indexed(email: &str) -> String {
        key(email).unwrap_or_else(|| email.to_ascii_lowercase())
    }

    #[test]
    fn addresses_that_differ_in_case_or_composition_are_the_same() {
        for (one, other) in [
            ("INFO@Example.org", "info@example.ORG"),
            ("Zoë@example.org", "ZOË@example.org"),
            ("Zoe\u{308}@example.org", "Zo\u{eb}@example.org"),
            ("ΣΟΦΟΣ@example.org", "σοφος@example.org"),
            ("σοφος@example.org", "σοφοσ@example.org"),
            ("STRAẞE@example.org", "straße@example.org"),
            ("\u{212a}ai@example.org", "kai@example.org"),
            ("İnfo@example.org", "i\u{307}nfo@example.org"),
            ("info@MÜNCHEN.de", "info@xn--mnchen-3ya.de"),
            ("info@mu\u{308}nchen.de", "INFO@münchen.de"),
            ("我買@屋企.香港", "我買@xn--hoqu73a.xn--j6w193g"),
        ] {
            assert_eq!(indexed(one), indexed(other), "{one} {other}");
        }
    }

    #[test]
    fn addresses_that_unicode_tells_apart_are_different() {
        for (one, other) in [
            ("İnfo@example.org", "info@example.org"),
            ("ınfo@example.org", "info@example.org"),
            ("straße@example.org", "strasse@example.org"),
            ("zoë@example.org", "zoe@example.org"),
            ("zoë@example.org", "zo%c3%ab@example.org"),
            ("info@faß.de", "info@fass.de"),
            ("ﬁn@example.org", "fin@example.org"),
        ] {
            assert_ne!(indexed(one), indexed(other), "{one} {other}");
        }
    }

    #[test]
    fn folding_any_character_again_changes_nothing() {
        for c in ('\0'..=char::MAX).filter(|c| fold(*c) != *c) {
            assert_eq!(fold(fold(c)), fold(c), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn every_text_has_an_ascii_key_that_ignores_case(text in "\\PC{0,20}(@\\PC{0,20})?") {
            prop_assert!(indexed(&text).is_ascii());
            let folded: String = text.nfd().map(fold).collect();
            prop_assert_eq!(ascii(&folded), ascii(&text));
        }
    }
}
