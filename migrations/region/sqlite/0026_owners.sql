-- Up to which organization, by id, it has been looked whether somebody is its owner. Behind that, findings are still due.
ALTER TABLE causeway_import ADD COLUMN owners_checked bigint NOT NULL DEFAULT 0;
