-- Control's own tables: regions, id leases, slug reservations and the directory of organizations.
-- Times and UUIDs are text.

CREATE TABLE causeway_region (
  name TEXT NOT NULL PRIMARY KEY,
  address TEXT NOT NULL,
  -- The database behind the name. Another database cannot take the name over.
  instance_id TEXT NOT NULL,
  created_at TEXT NOT NULL,
  last_seen_at TEXT NOT NULL
);

-- The highest id that was ever given out, one row for each model.
CREATE TABLE causeway_id_lease_counter (
  model TEXT NOT NULL PRIMARY KEY,
  last_id BIGINT NOT NULL CHECK (last_id BETWEEN 0 AND 9007199254740991)
);

CREATE TABLE causeway_id_lease (
  region TEXT NOT NULL REFERENCES causeway_region (name),
  operation_id TEXT NOT NULL,
  model TEXT NOT NULL,
  first_id BIGINT NOT NULL,
  count BIGINT NOT NULL,
  created_at TEXT NOT NULL,
  PRIMARY KEY (region, operation_id)
);

-- What makes a bulk creation, its confirmation and its release repeatable.
CREATE TABLE causeway_slug_operation (
  region TEXT NOT NULL REFERENCES causeway_region (name),
  operation_id TEXT NOT NULL,
  -- SHA-256 over what was asked for.
  content_digest BLOB NOT NULL,
  organization_count BIGINT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('reserved', 'confirmed', 'released')),
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  PRIMARY KEY (region, operation_id)
);

-- No foreign keys: they would be checked row by row, and the operation is written by the same transaction.
CREATE TABLE causeway_organization_slug_reservation (
  slug TEXT NOT NULL PRIMARY KEY CHECK (slug = lower(slug)),
  organization_id BIGINT NOT NULL,
  region TEXT NOT NULL,
  wanted_slug TEXT NOT NULL,
  type TEXT NOT NULL CHECK (type IN ('primary', 'temporary_rename_alias', 'vanity_alias')),
  operation_id TEXT NOT NULL,
  created_at TEXT NOT NULL,
  confirmed_at TEXT
);

-- One primary and one temporary reservation for each organization.
CREATE UNIQUE INDEX causeway_organization_slug_reservation_organization_key
  ON causeway_organization_slug_reservation (region, organization_id, type)
  WHERE type IN ('primary', 'temporary_rename_alias');
CREATE INDEX causeway_organization_slug_reservation_operation_idx
  ON causeway_organization_slug_reservation (region, operation_id, organization_id);
CREATE INDEX causeway_organization_slug_reservation_region_idx
  ON causeway_organization_slug_reservation (region, slug);

CREATE TABLE causeway_organization (
  organization_id BIGINT NOT NULL PRIMARY KEY,
  region TEXT NOT NULL REFERENCES causeway_region (name),
  slug TEXT NOT NULL,
  name TEXT NOT NULL,
  status BIGINT NOT NULL,
  reported_at TEXT NOT NULL
);

CREATE INDEX causeway_organization_region_idx ON causeway_organization (region, organization_id);

-- Users are compared without regard to case when an import merges them.
CREATE INDEX IF NOT EXISTS causeway_auth_user_username_lower_idx ON auth_user (lower(username));
