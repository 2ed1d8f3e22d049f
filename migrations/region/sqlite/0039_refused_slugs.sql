-- What of its table refused the slug that an organization was given, so that another one is asked for. Null if nothing
-- did.
ALTER TABLE causeway_import_organization ADD COLUMN slug_refused_by text;
