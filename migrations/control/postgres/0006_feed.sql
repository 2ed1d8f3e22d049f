-- What happens to the reservations of each region, one change after the other, and renames.

-- How far each region's feed is. Whoever changes reservations of a region updates this row first, and keeps it locked
-- to the end of the transaction: so versions have no gap and come to be seen in their order, and changes of one region
-- follow each other.
CREATE TABLE causeway_feed (
  region text COLLATE "C" PRIMARY KEY REFERENCES causeway_region (name),
  version bigint NOT NULL,
  -- Events above this version are kept. A reader that is further behind begins with a snapshot.
  oldest bigint NOT NULL
);

CREATE TABLE causeway_feed_event (
  region text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  slug text NOT NULL,
  organization_id bigint NOT NULL,
  -- Null if nobody has the slug any more.
  type text,
  -- The primary slug of the organization, if it has one.
  canonical_slug text,
  operation_id uuid NOT NULL,
  -- The region is to give the organization this slug, and to confirm the operation.
  wanted boolean NOT NULL,
  PRIMARY KEY (region, version)
);

-- Renames, each with an operation of the same id. A slug that is an alias of the organization already stays one until
-- the rename is confirmed.
CREATE TABLE causeway_slug_rename (
  operation_id uuid PRIMARY KEY,
  region text COLLATE "C" NOT NULL,
  organization_id bigint NOT NULL,
  desired_slug text NOT NULL,
  require_exact boolean NOT NULL,
  keep_alias boolean NOT NULL,
  slug text NOT NULL,
  previous_slug text NOT NULL,
  state text NOT NULL CHECK (state IN ('pending', 'confirmed', 'refused')),
  refusal_reason text,
  refusal_message text,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL
);

-- One at a time for each organization.
CREATE UNIQUE INDEX causeway_slug_rename_pending_key ON causeway_slug_rename (region, organization_id)
  WHERE state = 'pending';

-- All reservations of an organization, aliases too.
CREATE INDEX causeway_organization_slug_reservation_of_organization_idx
  ON causeway_organization_slug_reservation (organization_id, region);
