-- Which Redis may be believed, and since which epoch: docs/coherence.md. The number is part of every key in Redis, so it
-- starts where that of another database does not.
CREATE TABLE {schema}.cache_epoch (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch bigint NOT NULL,
    trusted bytea CHECK (octet_length(trusted) = 20)
);

INSERT INTO {schema}.cache_epoch (epoch) VALUES (floor(random() * 2 ^ 52)::bigint + 1);
