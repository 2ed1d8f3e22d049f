-- What of its table refused the slug that an organization was given, so that another one is requested; null if nothing
-- did. How often that has happened. Whether it refused the organization's own status, so that it stays hidden.
ALTER TABLE causeway_import_organization ADD COLUMN slug_refused_by text;
ALTER TABLE causeway_import_organization ADD COLUMN slug_refusals bigint NOT NULL DEFAULT 0;
ALTER TABLE causeway_import_organization ADD COLUMN status_refused boolean NOT NULL DEFAULT false;
