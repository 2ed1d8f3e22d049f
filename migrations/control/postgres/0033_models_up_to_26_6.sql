-- Tables of models are altered to what the models of releases up to 26.6 need. An older release of Causeway must not use
-- the database after that. On SQLite, a release that was never shipped lost this index when it wrote auth_user again.
CREATE INDEX IF NOT EXISTS causeway_auth_user_username_lower_idx ON auth_user (lower(username));
