-- What control remembers of having been put back from an old copy of its database.

-- One row: how often that has happened. Versions of feeds of an era begin at era * 2^32 + 1, so no version of a later era
-- was ever given to a reader of an earlier one.
CREATE TABLE causeway_era (
  singleton BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (singleton = TRUE),
  era BIGINT NOT NULL
);
INSERT INTO causeway_era (era) VALUES (0);

-- Ids that may have been leased between the copy and its return. They are never leased again; a region that reports rows
-- with such ids gets a lease of them.
CREATE TABLE causeway_lost_ids (
  model TEXT NOT NULL,
  first_id BIGINT NOT NULL,
  last_id BIGINT NOT NULL,
  PRIMARY KEY (model, first_id)
);
