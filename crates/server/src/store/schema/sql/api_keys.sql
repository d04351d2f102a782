-- API keys: docs/auth.md. A revoked key keeps its row, so that the log can be understood later.
CREATE TABLE {schema}.api_keys (
    id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    -- SHA-256 of the key, or HMAC-SHA-256 with AUTH_PEPPER_FILE. The key itself is stored nowhere.
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    -- The first key of a row of keys that replaced each other; null for the first.
    owner bigint,
    name text NOT NULL,
    -- Separated by commas.
    scopes text NOT NULL,
    -- Rate limits of this key instead of the general ones.
    limits text,
    -- The first characters of the key, by which people recognize it.
    hint text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz CHECK (isfinite(expires_at)),
    revoked_at timestamptz,
    -- Written at most once a minute.
    last_used_at timestamptz
);
