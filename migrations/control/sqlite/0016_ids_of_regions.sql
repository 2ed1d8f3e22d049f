-- Which ids the tables of each region hold, of those models whose ids are leased, as the region said when it registered.
CREATE TABLE causeway_region_ids (
  region TEXT NOT NULL REFERENCES causeway_region (name),
  model TEXT NOT NULL,
  first_id BIGINT NOT NULL,
  last_id BIGINT NOT NULL,
  -- Whether the region holds each id of the range, and not only some.
  is_exact BOOLEAN NOT NULL,
  PRIMARY KEY (region, model, first_id)
);
CREATE INDEX causeway_region_ids_model_idx ON causeway_region_ids (model, last_id);

-- Those of them that another region has too, or may give out. The first few of each model.
CREATE TABLE causeway_region_id_conflict (
  region TEXT NOT NULL REFERENCES causeway_region (name),
  model TEXT NOT NULL,
  first_id BIGINT NOT NULL,
  last_id BIGINT NOT NULL,
  other_region TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('leased', 'held', 'reserved')),
  PRIMARY KEY (region, model, first_id, other_region, kind)
);

CREATE INDEX causeway_id_lease_first_id_idx ON causeway_id_lease (model, first_id);
