-- What cenote-cached needs in a database. It may be run again: what is there stays.

-- Which keyspace of which Redis is trusted, and since which epoch: docs/coherence.md.
CREATE TABLE IF NOT EXISTS cache_epoch (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch bigint NOT NULL,
    -- False until the first instance has decided; until then no instance uses the row.
    is_decided boolean NOT NULL DEFAULT false,
    -- The name of the trusted keyspace. Null: no Redis is trusted.
    keyspace bytea CHECK (octet_length(keyspace) = 20),
    -- When the first decision was made. Null once another decision has replaced it.
    first_decided_at timestamptz
);

INSERT INTO cache_epoch (epoch) VALUES (floor(random() * 2 ^ 52)::bigint + 1) ON CONFLICT DO NOTHING;

-- Versions of rows. One sequence for all tables, so that the version of a row that is deleted and inserted again goes on.
CREATE SEQUENCE IF NOT EXISTS cenote_version;

-- For a trigger BEFORE INSERT OR UPDATE: gives the row the next version, in its column `version`. The row is locked by
-- then, so the versions of a row grow in the order in which its changes commit.
CREATE OR REPLACE FUNCTION cenote_version() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.version := nextval('cenote_version');
    RETURN NEW;
END
$$;

-- Notifies of the keys that a statement has changed, in as many notifications as needed, or of the whole table if more than
-- 1000 changed. Its arguments are the name of the cached table and the column with the key.
CREATE OR REPLACE FUNCTION cenote_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    channel CONSTANT text := 'cenote_cached';
    most CONSTANT int := 1000;
    -- A notification has less than 8000 bytes.
    room CONSTANT int := 7800;
    key_of CONSTANT text := format('SELECT %I::text FROM ', TG_ARGV[1]);
    keys refcursor;
    changed_key text;
    encoded text;
    payload text := '';
    many int := 0;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_notify(channel, TG_ARGV[0] || ' *');
        RETURN NULL;
    ELSIF TG_OP = 'UPDATE' THEN
        OPEN keys FOR EXECUTE key_of || 'changed UNION ' || key_of || 'became';
    ELSE
        OPEN keys FOR EXECUTE key_of || 'changed';
    END IF;
    LOOP
        FETCH keys INTO changed_key;
        EXIT WHEN NOT FOUND;
        CONTINUE WHEN changed_key IS NULL;
        encoded := to_json(changed_key)::text;
        many := many + 1;
        IF many > most OR octet_length(encoded) > room THEN
            PERFORM pg_notify(channel, TG_ARGV[0] || ' *');
            RETURN NULL;
        END IF;
        IF octet_length(payload) + octet_length(encoded) > room THEN
            PERFORM pg_notify(channel, TG_ARGV[0] || ' [' || payload || ']');
            payload := '';
        END IF;
        payload := payload || CASE payload WHEN '' THEN '' ELSE ',' END || encoded;
    END LOOP;
    IF payload <> '' THEN
        PERFORM pg_notify(channel, TG_ARGV[0] || ' [' || payload || ']');
    END IF;
    RETURN NULL;
END
$$;

-- Makes the changes of a table known to the caches: `SELECT cenote_watch('goods', 'id', 'goods')`, with the table, the column
-- with its key, and the name under which it is cached. Sessions in which `cenote.writer` is `on` send nothing.
CREATE OR REPLACE FUNCTION cenote_watch(watched regclass, key_column text, cached_as text) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    kind text;
    tables text;
BEGIN
    FOREACH kind IN ARRAY ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'] LOOP
        tables := CASE kind
            WHEN 'INSERT' THEN 'REFERENCING NEW TABLE AS changed'
            WHEN 'UPDATE' THEN 'REFERENCING OLD TABLE AS changed NEW TABLE AS became'
            WHEN 'DELETE' THEN 'REFERENCING OLD TABLE AS changed'
            ELSE ''
        END;
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT '
            'WHEN (current_setting(''cenote.writer'', true) IS DISTINCT FROM ''on'') '
            'EXECUTE FUNCTION cenote_changed(%L, %L)',
            'cenote_watch_' || lower(kind), kind, watched, tables, cached_as, key_column
        );
    END LOOP;
END
$$;
