-- The last chunk of an import whose rows have been announced to the workers of the product, in the order of writing. 0 if
-- none was.
ALTER TABLE causeway_import ADD COLUMN announced_position bigint NOT NULL DEFAULT 0;
ALTER TABLE causeway_import ADD COLUMN announced_ordinal bigint NOT NULL DEFAULT 0;
