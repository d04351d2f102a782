-- A deleted key stays as a row without a value: its version goes on from there when it is written again.
-- Keys compare by bytes, which is faster than any language's order, and nobody reads them in order.
CREATE TABLE {schema}.kv (
    key text COLLATE "C" PRIMARY KEY,
    value text,
    version bigint NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now()
);
