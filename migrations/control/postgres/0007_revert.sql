-- Taking imports back. A chunk is marked in the transaction that deletes its rows. A region has a table of the same form.
ALTER TABLE causeway_import_chunk ADD COLUMN reverted_at timestamptz;
ALTER TABLE causeway_import_chunk ADD COLUMN deleted bigint NOT NULL DEFAULT 0;
ALTER TABLE causeway_import_chunk ADD COLUMN kept bigint NOT NULL DEFAULT 0;
ALTER TABLE causeway_import_chunk ADD COLUMN revert_findings text NOT NULL DEFAULT '[]';

-- Imports that are being reverted or were: no chunk of one is written any more. Whoever writes a chunk or takes one back
-- locks this row.
CREATE TABLE causeway_import (
    region text NOT NULL,
    import_id uuid NOT NULL,
    reverting boolean NOT NULL,
    PRIMARY KEY (region, import_id)
);

-- Rows of an import that is being reverted that something in its region needs.
CREATE TABLE causeway_import_needed (
    region text NOT NULL,
    import_id uuid NOT NULL,
    model text NOT NULL,
    row_id bigint NOT NULL,
    needed_by text NOT NULL,
    PRIMARY KEY (region, import_id, model, row_id)
);
