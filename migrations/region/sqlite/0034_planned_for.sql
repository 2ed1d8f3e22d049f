-- The tables for which an import was planned, as two hashes: those of this region, and those of control. Both belong to
-- an application that somebody may upgrade before the import has ended.
ALTER TABLE causeway_import ADD COLUMN planned_for text;
