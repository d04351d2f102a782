CREATE TABLE goods (name text PRIMARY KEY, pieces bigint NOT NULL CHECK (pieces >= 0));
