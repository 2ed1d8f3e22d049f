-- Exports that come encrypted. size_bytes and sha256 are those of the export itself, so that it is the same import
-- whether it came encrypted or not.

-- The SHA-256 of what was sent, lowercase hex. Empty for imports from before this column, all of which came plain.
ALTER TABLE causeway_import ADD COLUMN upload_sha256 text NOT NULL DEFAULT '';
-- Whether the spooled file is encrypted.
ALTER TABLE causeway_import ADD COLUMN encrypted boolean NOT NULL DEFAULT 0;
