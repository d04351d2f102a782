CREATE TABLE goods (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL UNIQUE,
    pieces bigint NOT NULL CHECK (pieces >= 0),
    tags text[] NOT NULL DEFAULT '{}'
);
