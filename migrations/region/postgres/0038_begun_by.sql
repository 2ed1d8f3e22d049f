-- Who began an import: the URI of the identity of the caller. Null if callers needed no identity.
ALTER TABLE causeway_import ADD COLUMN begun_by text;
