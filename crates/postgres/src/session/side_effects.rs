//! Finds effects of a statement on the session that its text shows and the server's answer does not.
//!
//! Invariant: a completion is called harmless only if nothing of it outlives its transaction, except the effects of
//! functions. A false alarm costs a reset; an effect is missed only inside a function, a view or a server-side prepared
//! statement.

mod block;

use crate::session::lexer::{Token, tokens};

/// The effects of the statements of one text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SideEffects {
    /// It may change the session without a sign in the server's answers: session-level advisory locks, settings changed
    /// by `set_config`, a temporary table made by a query without rows.
    pub(crate) hidden: bool,
    /// The number of its commands whose tag is that of a change, such as `SET`, although nothing outlives the
    /// transaction, as for `SET LOCAL`.
    pub(crate) harmless: u32,
    /// It may commit in between, so that it can fail after it had an effect: `CALL` and `DO`.
    pub(crate) commits: bool,
}

/// Functions that take locks of the session, which outlive the transaction.
const SESSION_LOCKS: [&str; 4] = [
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
];

impl SideEffects {
    /// Returns the effects of a text; its statements are separated by semicolons.
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

/// Whether a text contains any of the names. For a text whose strings cannot be recognized with certainty.
fn mentions_anything(sql: &str) -> bool {
    let mut words = sql.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_');
    words.any(|word| {
        let is = |name: &&str| word.eq_ignore_ascii_case(name);
        // Names with Unicode escapes begin with U.
        SESSION_LOCKS.iter().any(is) || ["set_config", "temp", "temporary", "pg_temp", "u"].iter().any(is)
    })
}

/// Whether a statement changes the session without a sign in its answer.
fn has_hidden_effects(statement: &[Token<'_>]) -> bool {
    let calls = (0..statement.len()).any(|at| {
        let token = statement[at];
        SESSION_LOCKS.iter().any(|name| token.is_name(name))
            || token.is_name("set_config") && !is_for_the_transaction(&statement[at + 1..])
    });
    calls || makes_temporary_table(statement)
}

/// Whether the arguments, which begin with a bracket, end with a literal `true`: `set_config(…, true)`.
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

/// Whether a statement is `CREATE TEMP TABLE … AS` or `SELECT … INTO TEMP …`, whose tag is that of a SELECT.
fn makes_temporary_table(statement: &[Token<'_>]) -> bool {
    let is_temporary = |token: &Token<'_>| token.is_word("temp") || token.is_word("temporary");
    let begins_temporary = |rest: &[Token<'_>]| match rest {
        // These keywords have no effect.
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

/// Whether a statement's tag is that of a change although nothing outlives its transaction.
fn is_harmless(statement: &[Token<'_>]) -> bool {
    match statement {
        // Not `SET local.name = …`, which sets a setting of that name.
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

/// Whether the statement after `EXPLAIN` is not executed, or changes no session state.
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
        // `SELECT … INTO` creates a table.
        let makes_table = (1..explained.len()).any(|at| {
            explained[at].is_word("into") && !explained[at - 1].is_word("insert") && !explained[at - 1].is_word("merge")
        });
        explained.first().is_some_and(is_plain) && !makes_table
    }
}

/// Whether a cursor ends with its transaction: it has no `WITH HOLD`.
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
