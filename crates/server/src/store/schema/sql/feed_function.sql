-- Notifies of the keys that a statement has changed, in as many notifications as needed, or of all keys if more than 1000
-- changed. The triggers skip the service's own sessions, because the service tells the cache itself.
-- A change between the dollar signs, even of a comment, makes every migration replace the function.
CREATE OR REPLACE FUNCTION {schema}.cenote_feed() RETURNS trigger LANGUAGE plpgsql AS $$
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
