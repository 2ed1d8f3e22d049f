-- What regions report about their own work, for people. Control decides nothing by it.

-- The last report of each region.
CREATE TABLE causeway_region_report (
  region text PRIMARY KEY REFERENCES causeway_region (name),
  version text NOT NULL,
  -- How far it has read its feed.
  feed_version bigint NOT NULL,
  reported_at text NOT NULL
);

-- The versions with which each region has ever reported: the audit log has an entry for each. Processes of two versions may
-- report in turn during an upgrade.
CREATE TABLE causeway_reported_version (
  region text NOT NULL REFERENCES causeway_region (name),
  version text NOT NULL,
  PRIMARY KEY (region, version)
);

-- The last imports of each region, as it last reported each of them.
CREATE TABLE causeway_reported_import (
  region text NOT NULL REFERENCES causeway_region (name),
  import_id text NOT NULL,
  state text NOT NULL,
  ended boolean NOT NULL,
  dry_run boolean NOT NULL,
  -- By the clock of the region, as updated_at.
  created_at text NOT NULL,
  updated_at text NOT NULL,
  reported_at text NOT NULL,
  size_bytes bigint NOT NULL,
  organization_count bigint NOT NULL,
  -- JSON: progress, what it waits for, why it failed, who began it.
  summary text NOT NULL,
  -- JSON: counts by model, counts of findings, the first findings. Lists do not read it.
  details text NOT NULL,
  PRIMARY KEY (region, import_id)
);

CREATE INDEX causeway_reported_import_created_idx
  ON causeway_reported_import (created_at, region, import_id);
CREATE INDEX causeway_reported_import_region_idx
  ON causeway_reported_import (region, created_at, import_id);
-- The console reads both every two seconds: imports in progress, and those that failed.
CREATE INDEX causeway_reported_import_in_progress_idx
  ON causeway_reported_import (created_at, region, import_id) WHERE NOT ended;
CREATE INDEX causeway_reported_import_state_idx
  ON causeway_reported_import (state, created_at, region, import_id);

-- The last comparison of each region with control.
CREATE TABLE causeway_region_comparison (
  region text PRIMARY KEY REFERENCES causeway_region (name),
  -- By the clock of the region.
  compared_at text NOT NULL,
  compared bigint NOT NULL,
  difference_count bigint NOT NULL,
  repaired_count bigint NOT NULL,
  moving_count bigint NOT NULL,
  -- JSON: the first differences.
  differences text NOT NULL
);

-- Temporary reservations by age, for those that are stuck.
CREATE INDEX causeway_organization_slug_reservation_temporary_idx
  ON causeway_organization_slug_reservation (created_at, operation_id)
  WHERE type = 'temporary_rename_alias';
-- The renames of an organization.
CREATE INDEX causeway_slug_rename_organization_idx ON causeway_slug_rename (organization_id, created_at);
