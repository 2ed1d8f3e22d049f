-- New rows of an import that no record of its file stands for.
ALTER TABLE causeway_import_model ADD COLUMN added bigint NOT NULL DEFAULT 0;
