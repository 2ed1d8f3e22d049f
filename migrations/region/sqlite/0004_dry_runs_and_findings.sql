-- Dry runs, and findings that are counted when they are made.

-- Nothing is written to a model table; the import ends when it is known what would be.
ALTER TABLE causeway_import ADD COLUMN dry_run boolean NOT NULL DEFAULT 0;

-- Where the record of the organization is in the file.
ALTER TABLE causeway_import_organization ADD COLUMN ordinal bigint;
ALTER TABLE causeway_import_organization ADD COLUMN byte_offset bigint;
-- What control said of the slug in a dry run, and who has it, if it is taken by one that is there.
ALTER TABLE causeway_import_organization ADD COLUMN slug_verdict text;
ALTER TABLE causeway_import_organization ADD COLUMN taken_by_region text;
ALTER TABLE causeway_import_organization ADD COLUMN taken_by_organization bigint;

-- How many findings were made in each state, and how many of them are stored: past a limit they are only counted.
CREATE TABLE causeway_import_finding_count (
    import_id text NOT NULL REFERENCES causeway_import (import_id),
    state text NOT NULL,
    kind text NOT NULL,
    made bigint NOT NULL,
    stored bigint NOT NULL,
    PRIMARY KEY (import_id, state, kind)
);
INSERT INTO causeway_import_finding_count (import_id, state, kind, made, stored)
    SELECT import_id, state, kind, count(*), count(*) FROM causeway_import_finding GROUP BY import_id, state, kind;
