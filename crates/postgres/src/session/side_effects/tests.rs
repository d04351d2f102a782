use super::*;

fn hidden(sql: &str) -> bool {
    SideEffects::of(sql).hidden
}

fn harmless(sql: &str) -> u32 {
    SideEffects::of(sql).harmless
}

#[test]
fn what_outlives_its_transaction_unseen_is_found_however_it_is_written() {
    for sql in [
        "SELECT pg_advisory_lock(7)",
        "select PG_TRY_ADVISORY_LOCK(1, 2)",
        "SELECT\npg_catalog.pg_advisory_lock_shared\n(7)",
        "SELECT id, \"pg_try_advisory_lock_shared\"(id) FROM entry",
        "SELECT /* why */ pg_advisory_lock -- not\n (7)",
        "SELECT set_config('work_mem', '1MB', false)",
        "SELECT set_config('work_mem', '1MB', $1)",
        "SELECT set_config('work_mem', '1MB', NOT true)",
        "SELECT set_config('work_mem', '1MB', 'true')",
        "SELECT set_config('a.b', 'true', true), SET_CONFIG('a.c', ',true)', 2 > (1 + 2))",
        "SELECT set_config",
        "CREATE TEMP TABLE mine AS SELECT 1 WHERE false",
        "SELECT 1 INTO TEMPORARY mine WHERE false",
        "SELECT 1 INTO LOCAL TEMP mine WHERE false",
        "SELECT 1 INTO TABLE \"pg_temp\".mine WHERE false",
        "create/**/table pg_temp.mine as table entry",
        "SELECT 1; CREATE LOCAL TEMPORARY TABLE mine AS SELECT 1",
        "SELECT U&\"pg\\005fadvisory_lock\"(7)",
        "SELECT 'a\\', pg_advisory_lock(7), 'b'",
    ] {
        assert!(hidden(sql), "{sql}");
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
        "SELECT set_config('a.b', ARRAY['x', 'y']::text, true)",
        "SELECT temp, city FROM weather",
        "SELECT template FROM letters",
        "UPDATE letters SET template = $1",
        "UPDATE weather SET temp = 20 -- temp, as temporary, of pg_temp",
        "INSERT INTO temp VALUES (1)",
        "INSERT INTO readings (temp) SELECT temp FROM weather",
        "MERGE INTO temporary USING weather ON true WHEN MATCHED THEN DO NOTHING",
        "CREATE INDEX by_temp ON weather (temp)",
        "COMMENT ON TABLE weather IS 'CREATE TEMP TABLE, pg_advisory_lock(1), set_config'",
        "SELECT name FROM letters WHERE template LIKE 'a\\_temporarily'",
        "SELECT $$pg_advisory_lock(1)$$ /* set_config('a', 'b', false) */",
        "",
    ] {
        assert!(!hidden(sql), "{sql}");
    }
}

#[test]
fn commands_that_end_with_their_transaction_are_harmless_although_their_tags_speak_of_changes() {
    for sql in [
        "SET LOCAL lock_timeout = '1s'",
        "set /* for now */ local \"a.b\" to 'c'",
        "SET LOCAL ROLE reader",
        "SET LOCAL TIME ZONE 'UTC'",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "EXPLAIN SELECT 1",
        "EXPLAIN CREATE TEMP TABLE mine AS SELECT 1",
        "EXPLAIN (FORMAT JSON, COSTS off) UPDATE entry SET id = 1",
        "EXPLAIN VERBOSE SELECT analyze FROM entry",
        "EXPLAIN ANALYZE SELECT 1",
        "EXPLAIN (ANALYZE, BUFFERS) INSERT INTO entry VALUES (1)",
        "DECLARE rows CURSOR FOR SELECT 1",
        "DECLARE \"cursor\" BINARY NO SCROLL CURSOR WITHOUT HOLD FOR SELECT hold FROM entry",
        "DO $$BEGIN PERFORM 1; END$$",
        "DO LANGUAGE plpgsql $body$
            DECLARE n int := 0; r record;
            BEGIN
                <<outer>> FOR r IN SELECT id FROM entry LOOP
                    n := n + r.id; -- SET work_mem = 1
                    UPDATE entry SET id = n WHERE id = r.id;
                END LOOP;
                IF n > 1 THEN RAISE NOTICE 'EXECUTE %', n; ELSE NULL; END IF;
            END
         $body$",
    ] {
        assert_eq!(harmless(sql), 1, "{sql}");
    }
    let many = "BEGIN; SET LOCAL a.b = ';'; DECLARE c CURSOR FOR SELECT 1; SET a.b = 1; EXPLAIN SELECT 1; COMMIT;";
    assert_eq!(harmless(many), 3);
}

#[test]
fn commands_that_outlive_their_transaction_are_not() {
    for sql in [
        "SET work_mem = '1MB'",
        "SET SESSION work_mem = '1MB'",
        "SET local.work_mem = '1MB'",
        "SET \"local\" TO x",
        "SET transaction.a = 1",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET a.b = 'c' -- SET LOCAL x = 1",
        "EXPLAIN ANALYZE CREATE TEMP TABLE mine AS SELECT 1",
        "EXPLAIN (\"analyze\") SELECT 1 INTO mine",
        "EXPLAIN ANALYZE EXECUTE mine",
        "DECLARE rows CURSOR WITH HOLD FOR SELECT 1",
        "DECLARE rows NO SCROLL CURSOR WITH HOLD FOR SELECT 'WITHOUT HOLD'",
        "LISTEN news",
        "DO 'BEGIN PERFORM 1; END'",
        "DO LANGUAGE plpython3u $$plpy.execute(\"SET a.b = 1\")$$",
        "DO $$BEGIN SET work_mem = '1MB'; END$$",
        "DO $$BEGIN IF true THEN RESET ALL; END IF; END$$",
        "DO $$BEGIN EXECUTE 'SET work_mem = 1'; END$$",
        "DO $$DECLARE r record; BEGIN FOR r IN EXECUTE 'SELECT 1' LOOP NULL; END LOOP; END$$",
        "DO $$BEGIN PERFORM set_config('a.b', 'c', false); END$$",
        "DO $$BEGIN CREATE TEMP TABLE mine (id int); END$$",
        "DO $$BEGIN <<here>> CALL anything(); END$$",
        "DO $$BEGIN LISTEN news; END$$",
        "SELECT '\\'; SET LOCAL a.b = 1; --'",
    ] {
        assert_eq!(harmless(sql), 0, "{sql}");
    }
}

#[test]
fn what_may_commit_on_its_way_is_told() {
    for (sql, commits) in [
        ("CALL settle($1)", true),
        ("/* now */ do $$BEGIN COMMIT; END$$", true),
        ("DO '\\'", true),
        ("SELECT '\\'", false),
        ("SELECT call FROM calls", false),
        ("INSERT INTO entry VALUES (1) ON CONFLICT DO NOTHING", false),
    ] {
        assert_eq!(SideEffects::of(sql).commits, commits, "{sql}");
    }
}
