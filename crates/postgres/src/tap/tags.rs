//! Derives from a command tag whether the command changed its session.
//!
//! Invariant: a tag counts as dirt unless it is known to leave the session unchanged. Some tags are only a claim, which
//! the text of the command can disprove.

use super::status::Dirt;

/// Returns the dirt of a command that completed with `tag`: the text of a CommandComplete message, with or without its
/// terminating NUL.
pub(super) fn dirt(tag: &[u8]) -> Dirt {
    match command(tag) {
        b"SELECT" | b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" | b"FETCH" | b"MOVE" | b"COPY" | b"SHOW" => Dirt::NONE,
        b"BEGIN"
        | b"START TRANSACTION"
        | b"COMMIT"
        | b"ROLLBACK"
        | b"SAVEPOINT"
        | b"RELEASE"
        | b"PREPARE TRANSACTION"
        | b"COMMIT PREPARED"
        | b"ROLLBACK PREPARED"
        | b"LOCK TABLE"
        | b"SET CONSTRAINTS" => Dirt::NONE,
        b"CLOSE CURSOR" | b"CLOSE CURSOR ALL" | b"UNLISTEN" | b"NOTIFY" => Dirt::NONE,
        b"ANALYZE"
        | b"VACUUM"
        | b"CHECKPOINT"
        | b"REINDEX"
        | b"TRUNCATE TABLE"
        | b"CREATE INDEX"
        | b"DROP INDEX"
        | b"DROP TABLE"
        | b"REFRESH MATERIALIZED VIEW"
        | b"COMMENT"
        | b"GRANT"
        | b"REVOKE" => Dirt::NONE,
        // The text of these commands may show that nothing outlives the transaction: `SET LOCAL`.
        b"SET" | b"EXPLAIN" | b"DECLARE CURSOR" | b"DO" => Dirt::CLAIMED,
        b"PREPARE" | b"DEALLOCATE" | b"DEALLOCATE ALL" | b"DISCARD ALL" | b"DISCARD PLANS" => Dirt::STATEMENTS,
        _ => Dirt::SESSION,
    }
}

/// Whether the tag is that of a SELECT. `CREATE TABLE AS` has it too.
pub(super) fn is_select(tag: &[u8]) -> bool {
    command(tag) == b"SELECT"
}

/// Whether the tag has a count of rows above zero.
pub(super) fn has_rows(tag: &[u8]) -> bool {
    tag.iter().any(|byte| matches!(byte, b'1'..=b'9'))
}

/// Returns the command without the counts after it: "INSERT 0 1", "SELECT 7".
fn command(tag: &[u8]) -> &[u8] {
    let end = tag
        .iter()
        .position(|byte| byte.is_ascii_digit() || *byte == 0)
        .unwrap_or(tag.len());
    tag[..end].trim_ascii_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_terminators_do_not_matter() {
        for tag in [&b"SELECT 1\0"[..], b"INSERT 0 12", b"BEGIN\0", b"COPY 0\0"] {
            assert_eq!(dirt(tag), Dirt::NONE, "{tag:?}");
        }
    }

    #[test]
    fn preparing_a_transaction_is_not_preparing_a_statement() {
        assert_eq!(dirt(b"PREPARE TRANSACTION\0"), Dirt::NONE);
        assert_eq!(dirt(b"PREPARE\0"), Dirt::STATEMENTS);
        assert_eq!(dirt(b"DISCARD ALL\0"), Dirt::STATEMENTS);
    }

    #[test]
    fn what_the_text_may_excuse_is_only_claimed() {
        for tag in ["SET", "EXPLAIN", "DECLARE CURSOR", "DO"] {
            assert_eq!(dirt(tag.as_bytes()), Dirt::CLAIMED, "{tag}");
        }
        assert_eq!(dirt(b"SET CONSTRAINTS\0"), Dirt::NONE);
    }

    #[test]
    fn what_is_not_listed_is_dirt() {
        for tag in ["RESET", "LISTEN", "LOAD", "CALL", "", "SELECTED"] {
            assert_eq!(dirt(tag.as_bytes()), Dirt::SESSION, "{tag}");
        }
        assert_eq!(dirt(b"CREATE TABLE\0"), Dirt::SESSION);
        assert_eq!(dirt(b"DISCARD TEMP\0"), Dirt::SESSION);
    }
}
