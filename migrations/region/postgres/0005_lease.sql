-- Who runs an import: one process at a time, until lease_until by its own clock unless it renews the lease. All null if
-- nobody does.
ALTER TABLE causeway_import ADD COLUMN lease_holder uuid;
ALTER TABLE causeway_import ADD COLUMN lease_place text;
-- The spool directory of the holder. Whoever has locked it knows that every earlier holder of it is dead.
ALTER TABLE causeway_import ADD COLUMN lease_spool uuid;
ALTER TABLE causeway_import ADD COLUMN lease_acquired_at timestamptz;
ALTER TABLE causeway_import ADD COLUMN lease_renewed_at timestamptz;
ALTER TABLE causeway_import ADD COLUMN lease_until timestamptz;
-- The spool directory that has the file; null if it was received before there were such ids.
ALTER TABLE causeway_import ADD COLUMN spool_id uuid;
-- How often it was resumed after it had failed.
ALTER TABLE causeway_import ADD COLUMN resumes bigint NOT NULL DEFAULT 0;
