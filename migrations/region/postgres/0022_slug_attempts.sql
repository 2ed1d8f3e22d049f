-- From which attempt on an organization's slug is asked for as one that another organization of this region has. What is
-- asked in an attempt that is under way does not change by it.
ALTER TABLE causeway_import_organization ADD COLUMN taken_from_attempt BIGINT;
