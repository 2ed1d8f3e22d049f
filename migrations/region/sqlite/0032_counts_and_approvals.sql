-- Records of models that cannot be imported, apart from those of other scopes; and records that arrived otherwise than
-- they were in the file.
ALTER TABLE causeway_import_model ADD COLUMN passed_over bigint NOT NULL DEFAULT 0;
ALTER TABLE causeway_import_model ADD COLUMN changed bigint NOT NULL DEFAULT 0;

-- Whether the organization was changed before its slug was decided, so that it counts once.
ALTER TABLE causeway_import_organization ADD COLUMN changed boolean NOT NULL DEFAULT 0;

-- How often organizations of the import were shown after it had succeeded. A report to control that began before the
-- last time does not count.
ALTER TABLE causeway_import ADD COLUMN approvals bigint NOT NULL DEFAULT 0;
