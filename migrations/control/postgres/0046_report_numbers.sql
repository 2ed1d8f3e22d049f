-- The number of the report that an entry is from: what a later report has said is not replaced by one that arrives late.
-- 0 if the region did not number it.
ALTER TABLE causeway_organization ADD COLUMN report_number bigint NOT NULL DEFAULT 0;
