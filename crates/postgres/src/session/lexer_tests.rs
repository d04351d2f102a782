//! Invariant checked: no text makes it panic or stand still, and what is put into comments, strings and quotes is not
//! taken for a keyword.

use proptest::prelude::*;

use super::*;
use Token::{Dollar, Number, Quoted, Symbol, Text, Word};

fn all(sql: &str) -> Vec<Token<'_>> {
    tokens(sql).collect()
}

fn is_doubtful(sql: &str) -> bool {
    let mut tokens = tokens(sql);
    while tokens.next().is_some() {}
    tokens.is_doubtful()
}

#[test]
fn comments_strings_and_quoted_names_end_where_they_end_for_the_server() {
    for (sql, expected) in [
        ("", vec![]),
        (" \t\r\n\x0c-- nothing", vec![]),
        ("/* /* nested */ still */a", vec![Word("a")]),
        ("/* never ends", vec![]),
        ("-- one\rSET", vec![Word("SET")]),
        ("a--b\nc", vec![Word("a"), Word("c")]),
        ("1+-/**/-2", vec![Number, Symbol('+'), Symbol('-'), Symbol('-'), Number]),
        ("'it''s' x", vec![Text, Word("x")]),
        ("'never ends", vec![Text]),
        ("e'\\'' x", vec![Text, Word("x")]),
        ("E'a'\n'\\'' x", vec![Text, Word("x")]),
        ("E'a' -- why\n '\\'' x", vec![Text, Word("x")]),
        ("E'a' '' x", vec![Text, Text, Word("x")]),
        ("namee'x'", vec![Word("namee"), Text]),
        ("U&'\\0041' n'x' B'01' x'ff'", vec![Text, Text, Text, Text]),
        ("u & 'x'", vec![Word("u"), Symbol('&'), Text]),
        ("\"a\"\"b\".c", vec![Quoted("a\"\"b"), Symbol('.'), Word("c")]),
        ("$$a'b$$", vec![Dollar("a'b")]),
        ("$x$a$$b$x$c", vec![Dollar("a$$b"), Word("c")]),
        (
            "$1::text",
            vec![Symbol('$'), Number, Symbol(':'), Symbol(':'), Word("text")],
        ),
        ("a$b$c", vec![Word("a$b$c")]),
        ("$ü$x$ü$", vec![Dollar("x")]),
        ("$x$never ends", vec![Dollar("never ends")]),
        ("$a b$", vec![Symbol('$'), Word("a"), Word("b$")]),
        ("größe", vec![Word("größe")]),
        ("1e'\\''", vec![Number, Text]),
    ] {
        assert_eq!(all(sql), expected, "{sql}");
    }
}

#[test]
fn what_depends_on_the_session_is_doubtful() {
    for sql in ["'\\'", "n'a\\b'", "SELECT U&\"d\\0061ta\""] {
        assert!(is_doubtful(sql), "{sql}");
    }
    for sql in ["E'\\''", "\"a\\b\"", "$$\\$$", "U&'\\0041'", "-- '\\'"] {
        assert!(!is_doubtful(sql), "{sql}");
    }
}

/// Pieces that open and close what is quoted.
fn fragment() -> impl Strategy<Value = String> {
    const DELIMITERS: [&str; 22] = [
        "'", "\"", "$$", "$a$", "$", "/*", "*/", "--", "\n", "\\", "E", "u&", ";", "(", ")", " ", "SET", "1", "ü", "a",
        "''", "\r",
    ];
    prop_oneof![
        4 => proptest::sample::select(&DELIMITERS[..]).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

proptest! {
    #[test]
    fn any_text_is_taken_to_its_end(fragments in proptest::collection::vec(fragment(), 0..40)) {
        let sql = fragments.concat();
        let mut tokens = tokens(&sql);
        let mut left = tokens.rest.len();
        while tokens.next().is_some() {
            prop_assert!(tokens.rest.len() < left);
            left = tokens.rest.len();
        }
        prop_assert!(tokens.rest.is_empty());
    }

    #[test]
    fn what_is_hidden_is_no_token(text in "[^\0]*") {
        let single = text.replace('\\', "").replace('\'', "''");
        let double = text.replace('"', "\"\"");
        let line = text.replace(['\n', '\r'], " ");
        let block = text.replace("*/", "").replace("/*", "").replace(['*', '/'], "");
        let dollar = text.replace('$', "");
        let sql = format!(
            "a '{single}' \"{double}\" -- {line}\n b /* {block} */ $x${dollar}$x$ E'{}' c",
            text.replace('\\', "\\\\").replace('\'', "\\'")
        );
        let expected = [
            Word("a"), Text, Quoted(&double), Word("b"), Dollar(&dollar), Text, Word("c"),
        ];
        prop_assert_eq!(all(&sql), expected);
    }
}
