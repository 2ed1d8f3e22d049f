-- How many slugs the filter of an import has: lists tell that and leave out the filter, which may be large.
ALTER TABLE causeway_import ADD COLUMN filter_slugs bigint;
UPDATE causeway_import SET filter_slugs = json_array_length(filter) WHERE filter IS NOT NULL;
