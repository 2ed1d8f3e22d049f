-- Control's own tables: regions, id leases, slug reservations and the directory of organizations.
-- Names that are compared or paged through sort by their bytes (collation "C"), on every server alike.

CREATE TABLE causeway_region (
  name text COLLATE "C" PRIMARY KEY,
  address text NOT NULL,
  -- The database behind the name. Another database cannot take the name over.
  instance_id uuid NOT NULL,
  created_at timestamptz NOT NULL,
  last_seen_at timestamptz NOT NULL
);

-- The highest id that was ever given out, one row for each model. A lease locks the row until it is committed.
CREATE TABLE causeway_id_lease_counter (
  model text COLLATE "C" PRIMARY KEY,
  last_id bigint NOT NULL CHECK (last_id BETWEEN 0 AND 9007199254740991)
);

CREATE TABLE causeway_id_lease (
  region text COLLATE "C" NOT NULL REFERENCES causeway_region (name),
  operation_id uuid NOT NULL,
  model text NOT NULL,
  first_id bigint NOT NULL,
  count bigint NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (region, operation_id)
);

-- What makes a bulk creation, its confirmation and its release repeatable.
CREATE TABLE causeway_slug_operation (
  region text COLLATE "C" NOT NULL REFERENCES causeway_region (name),
  operation_id uuid NOT NULL,
  -- SHA-256 over what was asked for.
  content_digest bytea NOT NULL,
  organization_count bigint NOT NULL,
  state text NOT NULL CHECK (state IN ('reserved', 'confirmed', 'released')),
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (region, operation_id)
);

-- No foreign keys: they would be checked row by row, and the operation is written by the same transaction.
CREATE TABLE causeway_organization_slug_reservation (
  slug text COLLATE "C" PRIMARY KEY CHECK (slug = lower(slug)),
  organization_id bigint NOT NULL,
  region text COLLATE "C" NOT NULL,
  wanted_slug text NOT NULL,
  type text NOT NULL CHECK (type IN ('primary', 'temporary_rename_alias', 'vanity_alias')),
  operation_id uuid NOT NULL,
  created_at timestamptz NOT NULL,
  confirmed_at timestamptz
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
  organization_id bigint PRIMARY KEY,
  region text COLLATE "C" NOT NULL REFERENCES causeway_region (name),
  slug text NOT NULL,
  name text NOT NULL,
  status bigint NOT NULL,
  reported_at timestamptz NOT NULL
);

CREATE INDEX causeway_organization_region_idx ON causeway_organization (region, organization_id);

-- Users are compared without regard to case when an import merges them.
CREATE INDEX IF NOT EXISTS causeway_auth_user_username_lower_idx ON auth_user (lower(username));
