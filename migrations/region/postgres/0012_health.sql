-- Where a service tries whether it can write: one row that changes, and more for as long as the disk is known to be full.
-- Nothing here means anything, and it is never more than a mebibyte.
CREATE TABLE causeway_health (
    id bigint PRIMARY KEY,
    checks bigint NOT NULL,
    filler text
);
-- As long as it is written: what is compressed takes no room.
ALTER TABLE causeway_health ALTER COLUMN filler SET STORAGE PLAIN;
