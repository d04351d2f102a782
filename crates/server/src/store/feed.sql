-- Tells of the keys that a statement has changed, in as many notifications as they need; of everything if they are very
-- many. Sessions of the service are left out: it tells the cache itself.
CREATE OR REPLACE FUNCTION cenote_feed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    most CONSTANT int := 1000;
    -- A notification has less than 8000 bytes.
    room CONSTANT int := 7900;
    keys refcursor;
    changed_key text;
    encoded text;
    payload text := '';
    many int := 0;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_notify('cenote_feed', '*');
        RETURN NULL;
    ELSIF TG_OP = 'UPDATE' THEN
        OPEN keys FOR SELECT key FROM changed UNION SELECT key FROM became;
    ELSE
        OPEN keys FOR SELECT key FROM changed;
    END IF;
    LOOP
        FETCH keys INTO changed_key;
        EXIT WHEN NOT FOUND;
        encoded := to_json(changed_key)::text;
        many := many + 1;
        IF many > most OR octet_length(encoded) > room THEN
            PERFORM pg_notify('cenote_feed', '*');
            RETURN NULL;
        END IF;
        IF octet_length(payload) + octet_length(encoded) > room THEN
            PERFORM pg_notify('cenote_feed', '[' || payload || ']');
            payload := '';
        END IF;
        payload := payload || CASE payload WHEN '' THEN '' ELSE ',' END || encoded;
    END LOOP;
    IF payload <> '' THEN
        PERFORM pg_notify('cenote_feed', '[' || payload || ']');
    END IF;
    RETURN NULL;
END
$$;

DO $$
BEGIN
    -- Making a trigger locks out writers, so it is not done again.
    IF (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'kv'::regclass AND tgname LIKE 'cenote_feed_%') = 4 THEN
        RETURN;
    END IF;
    CREATE OR REPLACE TRIGGER cenote_feed_insert AFTER INSERT ON kv REFERENCING NEW TABLE AS changed
        FOR EACH STATEMENT WHEN (current_setting('cenote.writer', true) IS DISTINCT FROM 'on')
        EXECUTE FUNCTION cenote_feed();
    CREATE OR REPLACE TRIGGER cenote_feed_update AFTER UPDATE ON kv REFERENCING OLD TABLE AS changed NEW TABLE AS became
        FOR EACH STATEMENT WHEN (current_setting('cenote.writer', true) IS DISTINCT FROM 'on')
        EXECUTE FUNCTION cenote_feed();
    CREATE OR REPLACE TRIGGER cenote_feed_delete AFTER DELETE ON kv REFERENCING OLD TABLE AS changed
        FOR EACH STATEMENT WHEN (current_setting('cenote.writer', true) IS DISTINCT FROM 'on')
        EXECUTE FUNCTION cenote_feed();
    CREATE OR REPLACE TRIGGER cenote_feed_truncate AFTER TRUNCATE ON kv
        FOR EACH STATEMENT EXECUTE FUNCTION cenote_feed();
END
$$;
