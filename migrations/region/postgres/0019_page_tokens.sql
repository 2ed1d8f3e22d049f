-- What only services on this database know. The database makes it, so that several which start at once have the same.
CREATE TABLE causeway_secret (
    name text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);

-- The key of the checksums of page tokens.
INSERT INTO causeway_secret (name, value) VALUES ('page_tokens', decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));
