-- Addresses are compared by `email_key`, or by the address in lower case where that is null. So neither the database's locale
-- nor its encoding matters: see store/users/email_key.rs.
CREATE TABLE {schema}.users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL,
    email_key text COLLATE "C"
);

CREATE UNIQUE INDEX cenote_users_email ON {schema}.users (coalesce(email_key, lower(email COLLATE "C")));
