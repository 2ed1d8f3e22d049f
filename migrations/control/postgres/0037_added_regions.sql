-- The regions that control lets register: those that an operator has added, and those that registered while control took
-- any. Each transaction of a region locks its row here for reading, so that a suspension waits for those that are open,
-- and those that begin later see it.
CREATE TABLE causeway_added_region (
  name text COLLATE "C" PRIMARY KEY,
  added_at timestamptz NOT NULL,
  -- The identity of the caller; null if callers had none.
  added_by text,
  -- All three are null unless the region is suspended; the last two may be null if it is.
  suspended_at timestamptz,
  suspended_by text,
  suspension_text text
);

INSERT INTO causeway_added_region (name, added_at) SELECT name, created_at FROM causeway_region;

-- The identity that registered first, or after a takeover: another one cannot change the address.
ALTER TABLE causeway_region ADD COLUMN identity text;
-- The end of the certificate with which it last registered.
ALTER TABLE causeway_region ADD COLUMN certificate_end timestamptz;
-- When it last registered or read its feed, to about ten seconds.
ALTER TABLE causeway_region ADD COLUMN last_contact_at timestamptz;
UPDATE causeway_region SET last_contact_at = last_seen_at;
