-- Which keyspace of which Redis is trusted, and since which epoch: docs/coherence.md.
CREATE TABLE {schema}.cache_epoch (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch bigint NOT NULL,
    -- Until the first instance has decided, nobody acts on the row.
    is_decided boolean NOT NULL DEFAULT false,
    -- Names the keyspace; without one no Redis is trusted.
    keyspace bytea CHECK (octet_length(keyspace) = 20),
    -- When the first decision was made, for as long as that is the one in force.
    first_decided_at timestamptz
);

INSERT INTO {schema}.cache_epoch (epoch) VALUES (floor(random() * 2 ^ 52)::bigint + 1);
