-- What only services on this database know. The database makes it, so that several which start at once have the same.
CREATE TABLE causeway_secret (
    name text NOT NULL PRIMARY KEY,
    value blob NOT NULL
);

-- The key of the checksums of page tokens.
INSERT INTO causeway_secret (name, value) VALUES ('page_tokens', randomblob(32));
