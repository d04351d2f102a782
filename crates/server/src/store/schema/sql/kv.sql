-- A deleted key keeps its row, without a value, so that the next write continues its versions.
-- Keys are compared by bytes, which is faster than the order of a language. They are never listed in order.
CREATE TABLE {schema}.kv (
    key text COLLATE "C" PRIMARY KEY,
    value text,
    version bigint NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now()
);
