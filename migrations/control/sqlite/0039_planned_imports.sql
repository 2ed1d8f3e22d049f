-- The imports that regions plan, as they have said: control answers questions about rows and slugs for these.
CREATE TABLE causeway_import_plan (
    region text NOT NULL,
    import_id text NOT NULL,
    -- When the region said so last.
    planned_at text NOT NULL,
    PRIMARY KEY (region, import_id)
);
