-- Taking imports back. A chunk is marked in the transaction that deletes its rows. Control has a table of the same form.
ALTER TABLE causeway_import_chunk ADD COLUMN reverted_at timestamptz;
ALTER TABLE causeway_import_chunk ADD COLUMN deleted bigint NOT NULL DEFAULT 0;
ALTER TABLE causeway_import_chunk ADD COLUMN kept bigint NOT NULL DEFAULT 0;
ALTER TABLE causeway_import_chunk ADD COLUMN revert_findings text NOT NULL DEFAULT '[]';

ALTER TABLE causeway_import_model ADD COLUMN deleted bigint NOT NULL DEFAULT 0;
ALTER TABLE causeway_import_model ADD COLUMN kept bigint NOT NULL DEFAULT 0;
