//! What the text of a statement says of its effects on the session, where the server's answers do not tell.
//!
//! Invariant: a completion is called harmless only if nothing of it can outlive its transaction, but for what a function
//! does. A session called changed that is not costs a reset; one that is and is not called so is only missed where a
//! function, a view or a prepared statement of the server hides the call.

mod block;

use crate::session::lexer::{Token, tokens};

/// The effects of what is sent together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SideEffects {
    /// It may change the session in a way that none of the server's answers shows: advisory locks that outlive the
    /// transaction, settings changed by a function, a temporary table made of a query that found nothing.
    pub(crate) hidden: bool,
    /// How many of its commands will complete with a tag that speaks of a change, `SET` for example, although nothing
    /// outlives the transaction: `SET LOCAL`.
    pub(crate) harmless: u32,
    /// It may commit on the way, so that it can fail and have had an effect: `CALL` and `DO`.
    pub(crate) commits: bool,
}

/// What outlives its transaction, whatever calls it.
const SESSION_LOCKS: [&str; 4] = [
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
];

impl SideEffects {
    /// The effects of the statements in this text, separated by semicolons.
    pub(crate) fn of(sql: &str) -> Self {
        let mut all = tokens(sql);
        let tokens: Vec<Token<'_>> = all.by_ref().collect();
        let commits = |statement: &[Token<'_>]| {
            let first = statement.first();
            first.is_some_and(|first| first.is_word("call") || first.is_word("do"))
        };
        if all.is_doubtful() {
            return Self {
                hidden: mentions_anything(sql),
                harmless: 0,
                commits: commits(&tokens),
            };
        }
        let mut effects = Self::default();
        for statement in tokens.split(|token| *token == Token::Symbol(';')) {
            effects.hidden |= has_hidden_effects(statement);
            effects.harmless += u32::from(is_harmless(statement));
            effects.commits |= commits(statement);
        }
        effects
    }
}

/// The same for a text of which it is not certain what is a string in it: whether any such name is in it at all.
fn mentions_anything(sql: &str) -> bool {
    let mut words = sql.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_');
    words.any(|word| {
        let is = |name: &&str| word.eq_ignore_ascii_case(name);
        // Names written with escapes begin with a U.
        SESSION_LOCKS.iter().any(is) || ["set_config", "temp", "temporary", "pg_temp", "u"].iter().any(is)
    })
}

/// Whether a statement changes the session and its answer will not show it.
fn has_hidden_effects(statement: &[Token<'_>]) -> bool {
    let calls = (0..statement.len()).any(|at| {
        let token = statement[at];
        SESSION_LOCKS.iter().any(|name| token.is_name(name))
            || token.is_name("set_config") && !is_for_the_transaction(&statement[at + 1..])
    });
    calls || makes_temporary_table(statement)
}

/// Whether the arguments that begin here with a bracket end in a plain `true`: `set_config(…, true)`.
fn is_for_the_transaction(arguments: &[Token<'_>]) -> bool {
    let mut depth = 0_u32;
    let mut last = 0;
    for (at, token) in arguments.iter().enumerate() {
        match token {
            Token::Symbol('(' | '[') => {
                depth += 1;
                last = if depth == 1 { at + 1 } else { last };
            }
            _ if depth == 0 => return false,
            Token::Symbol(',') if depth == 1 => last = at + 1,
            Token::Symbol(')' | ']') => {
                depth -= 1;
                if depth == 0 {
                    return matches!(&arguments[last..at], [only] if only.is_word("true"));
                }
            }
            _ => {}
        }
    }
    false
}

/// Whether it is `CREATE TEMP TABLE … AS` or `SELECT … INTO TEMP …`, which complete with the tag of a SELECT.
fn makes_temporary_table(statement: &[Token<'_>]) -> bool {
    let is_temporary = |token: &Token<'_>| token.is_word("temp") || token.is_word("temporary");
    let begins_temporary = |rest: &[Token<'_>]| match rest {
        // These mean nothing.
        [first, second, ..] if first.is_word("local") || first.is_word("global") => is_temporary(second),
        [first, ..] => is_temporary(first),
        [] => false,
    };
    let names_schema = || {
        statement.windows(2).any(|pair| match pair {
            [Token::Word(name) | Token::Quoted(name), Token::Symbol('.')] => {
                name.get(..7).is_some_and(|begin| begin.eq_ignore_ascii_case("pg_temp"))
            }
            _ => false,
        })
    };
    match statement {
        [first, rest @ ..] if first.is_word("create") => begins_temporary(rest) || names_schema(),
        _ => (1..statement.len()).any(|at| {
            let into_table = statement[at].is_word("into")
                && !statement[at - 1].is_word("insert")
                && !statement[at - 1].is_word("merge");
            into_table && (begins_temporary(&statement[at + 1..]) || names_schema())
        }),
    }
}

/// Whether a statement completes with a tag that speaks of a change, and nothing of it outlives its transaction.
fn is_harmless(statement: &[Token<'_>]) -> bool {
    match statement {
        // `SET local.name = …` would be a setting of that name.
        [set, local, Token::Word(_) | Token::Quoted(_), ..] if set.is_word("set") => {
            local.is_word("local") || local.is_word("transaction")
        }
        [explain, rest @ ..] if explain.is_word("explain") => is_harmless_to_explain(rest),
        [declare, _name, rest @ ..] if declare.is_word("declare") => ends_with_transaction(rest),
        [r#do, rest @ ..] if r#do.is_word("do") => {
            block::tokens_of(rest).is_some_and(|tokens| !has_hidden_effects(&tokens) && block::has_only_known(&tokens))
        }
        _ => false,
    }
}

/// Whether what follows `EXPLAIN` is not executed, or may be.
fn is_harmless_to_explain(rest: &[Token<'_>]) -> bool {
    let mut options = 0;
    if rest.first() == Some(&Token::Symbol('(')) {
        let end = rest.iter().position(|token| *token == Token::Symbol(')'));
        options = end.map_or(rest.len(), |end| end + 1);
    }
    let options_end = rest[options..].iter().position(|token| {
        !["analyze", "analyse", "verbose"]
            .iter()
            .any(|option| token.is_word(option))
    });
    let (options, explained) = rest.split_at(options + options_end.unwrap_or(0));
    let is_executed = options
        .iter()
        .any(|token| token.is_name("analyze") || token.is_name("analyse"));
    !is_executed || {
        let plain = [
            "select", "values", "table", "with", "insert", "update", "delete", "merge",
        ];
        let is_plain = |first: &Token<'_>| plain.iter().any(|keyword| first.is_word(keyword));
        // `SELECT … INTO` makes a table.
        let makes_table = (1..explained.len()).any(|at| {
            explained[at].is_word("into") && !explained[at - 1].is_word("insert") && !explained[at - 1].is_word("merge")
        });
        explained.first().is_some_and(is_plain) && !makes_table
    }
}

/// Whether a cursor ends with the transaction that declares it: it has no `WITH HOLD`.
fn ends_with_transaction(rest: &[Token<'_>]) -> bool {
    let cursor = rest.iter().position(|token| token.is_word("cursor"));
    let after = cursor.map_or(&[][..], |at| &rest[at + 1..]);
    match after {
        [without, hold, ..] if without.is_word("without") => hold.is_word("hold"),
        [first, ..] => first.is_word("for"),
        [] => false,
    }
}

/// For a fuzzer: [`SideEffects::hidden`] and [`SideEffects::harmless`] of a text.
#[cfg(fuzzing)]
pub fn side_effects(sql: &str) -> (bool, u32) {
    let effects = SideEffects::of(sql);
    (effects.hidden, effects.harmless)
}

#[cfg(test)]
#[path = "side_effects/tests.rs"]
mod tests;
