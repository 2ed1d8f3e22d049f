-- Where a service tries whether it can write: one row that changes, and one more for as long as the disk is known to be
-- full. Nothing here means anything, and it is never more than a mebibyte.
CREATE TABLE causeway_health (
    id integer PRIMARY KEY,
    checks integer NOT NULL,
    filler text
);
