-- Tables of models are altered to what the models of releases up to 26.6 need. An older release of Causeway must not use
-- the database after that, so it must find a migration that it does not know.
SELECT 1;
