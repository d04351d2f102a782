//! What a statement's text says of traces that the wire does not show.
//!
//! Invariant: a hint too many costs a reset, one too few is only missed where a function or a view hides the call.

/// Whether a statement may change its session in a way that none of the server's answers shows: advisory locks that
/// outlive the transaction, settings changed by a function, and, of a statement that is known to return no rows, a
/// temporary table made of a query that found nothing.
pub(crate) fn leaves_traces(sql: &str, returns_rows: bool) -> bool {
    sets_for_the_session(sql)
        || words(sql).any(|word| {
            let is = |name: &str| word.eq_ignore_ascii_case(name);
            is("pg_advisory_lock")
                || is("pg_advisory_lock_shared")
                || is("pg_try_advisory_lock")
                || is("pg_try_advisory_lock_shared")
                || !returns_rows && (is("temp") || is("temporary") || is("pg_temp"))
        })
}

/// Whether `set_config` is called otherwise than with a plain `true` at the end, for the transaction alone.
fn sets_for_the_session(sql: &str) -> bool {
    const NAME: &str = "set_config";
    let calls = sql.char_indices().filter_map(|(at, _)| {
        let (name, rest) = sql[at..].split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(rest)
    });
    let mut calls = calls.map(last_argument);
    calls.any(|last| !last.is_some_and(|last| last.eq_ignore_ascii_case("true")))
}

/// The last of the arguments that begin here with a bracket.
fn last_argument(sql: &str) -> Option<&str> {
    let (mut depth, mut quoted, mut start) = (0_u32, false, 0);
    for (at, c) in sql.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            _ if quoted => {}
            '(' => {
                depth += 1;
                start = if depth == 1 { at + 1 } else { start };
            }
            ',' if depth == 1 => start = at + 1,
            ')' if depth <= 1 => return sql.get(start..at).map(str::trim),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Names and keywords, whatever they stand in.
fn words(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_outlives_its_transaction_unseen_is_found_however_it_is_written() {
        for sql in [
            "SELECT pg_advisory_lock(7)",
            "select PG_TRY_ADVISORY_LOCK(1, 2)",
            "SELECT\npg_catalog.pg_advisory_lock_shared\n(7)",
            "SELECT id, \"pg_try_advisory_lock_shared\"(id) FROM entry",
            "SELECT set_config('work_mem', '1MB', false)",
            "SELECT set_config('work_mem', '1MB', $1)",
            "SELECT set_config('a.b', 'true', true), SET_CONFIG('a.c', ',true)', 2 > (1 + 2))",
            "SELECT set_config",
        ] {
            assert!(leaves_traces(sql, true), "{sql}");
        }
        for sql in [
            "CREATE TEMP TABLE mine AS SELECT 1 WHERE false",
            "SELECT 1 INTO TEMPORARY mine WHERE false",
            "create/**/table pg_temp.mine as table entry",
        ] {
            assert!(leaves_traces(sql, false), "{sql}");
        }
    }

    #[test]
    fn what_ends_with_its_transaction_or_only_reads_costs_nothing() {
        for sql in [
            "SELECT pg_advisory_xact_lock(7)",
            "SELECT pg_advisory_unlock(7)",
            "SELECT current_setting('work_mem')",
            "SELECT set_config('lock_timeout', $1, true)",
            "SELECT pg_catalog.set_config ( 'a.b', concat('it''s', ',)'), TRUE )",
            "SELECT temp, city FROM weather",
            "SELECT template FROM letters",
            "",
        ] {
            assert!(!leaves_traces(sql, true), "{sql}");
        }
        assert!(!leaves_traces("UPDATE letters SET template = $1", false));
    }
}
