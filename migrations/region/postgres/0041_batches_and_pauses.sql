-- How the import cuts its records into batches for control, from its first one to its last: a chunk that control has
-- committed and the region has not recorded must be requested as the same chunk, also by a release with other sizes. The
-- defaults are the sizes of all releases before this one.
ALTER TABLE causeway_import ADD COLUMN control_batch_records bigint NOT NULL DEFAULT 2500;
ALTER TABLE causeway_import ADD COLUMN control_batch_bytes bigint NOT NULL DEFAULT 2097152;
-- Since when an operator has paused the import; null if nobody has. No process can take its lease then.
ALTER TABLE causeway_import ADD COLUMN paused_at timestamptz;
-- Who has paused it: the URI of an identity. Null if callers needed no identity.
ALTER TABLE causeway_import ADD COLUMN paused_by text;
-- Whether a pause has ended and no process has taken the lease since: the process that has the file looks for that.
ALTER TABLE causeway_import ADD COLUMN unpaused boolean NOT NULL DEFAULT false;
CREATE INDEX causeway_import_unpaused_idx ON causeway_import (import_id) WHERE unpaused;
