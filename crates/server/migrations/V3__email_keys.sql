-- What an address is compared by where that is not its own text with ASCII letters in lower case, so that neither the
-- database's locale nor its encoding has a say. Whoever migrates fills it in and adds the index: see store/email.rs.
ALTER TABLE users ADD COLUMN email_key text COLLATE "C";
DROP INDEX users_email_key;
