//! What a statement's text says of traces that the wire does not show.
//!
//! Invariant: a hint too many costs a reset, one too few is only missed where a function or a view hides the call.

/// Whether a statement may change its session in a way that none of the server's answers shows: advisory locks that
/// outlive the transaction, settings changed by a function, and, of a statement that is known to return no rows, a
/// temporary table made of a query that found nothing.
pub(crate) fn leaves_traces(sql: &str, returns_rows: bool) -> bool {
    words(sql).any(|word| {
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        is("pg_advisory_lock")
            || is("pg_advisory_lock_shared")
            || is("pg_try_advisory_lock")
            || is("pg_try_advisory_lock_shared")
            || is("set_config")
            || !returns_rows && (is("temp") || is("temporary") || is("pg_temp"))
    })
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
            "SELECT temp, city FROM weather",
            "SELECT template FROM letters",
            "",
        ] {
            assert!(!leaves_traces(sql, true), "{sql}");
        }
        assert!(!leaves_traces("UPDATE letters SET template = $1", false));
    }
}
