-- The column of the times that a view shows takes null, as releases of early 2025 had it. An older release of Causeway
-- must not use the database after that, so it must find a migration that it does not know.
SELECT 1;
