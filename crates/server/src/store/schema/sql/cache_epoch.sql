-- Which keyspace of which Redis is trusted, and since which epoch: docs/coherence.md.
CREATE TABLE {schema}.cache_epoch (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch bigint NOT NULL,
    -- False until the first instance has decided; until then no instance uses the row.
    is_decided boolean NOT NULL DEFAULT false,
    -- The name of the trusted keyspace. Null: no Redis is trusted.
    keyspace bytea CHECK (octet_length(keyspace) = 20),
    -- When the first decision was made. Null once another decision has replaced it.
    first_decided_at timestamptz
);

INSERT INTO {schema}.cache_epoch (epoch) VALUES (floor(random() * 2 ^ 52)::bigint + 1);
