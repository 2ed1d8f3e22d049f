-- What control keeps of the imports of its regions.

-- Chunks that have been written, each in the transaction of its rows. A region has a table of the same form.
CREATE TABLE causeway_import_chunk (
    region text NOT NULL,
    import_id uuid NOT NULL,
    model text NOT NULL,
    position bigint NOT NULL,
    min_ordinal bigint NOT NULL,
    max_ordinal bigint NOT NULL,
    inserted bigint NOT NULL,
    existing bigint NOT NULL,
    overwritten bigint NOT NULL,
    filtered bigint NOT NULL,
    out_of_scope bigint NOT NULL,
    dropped bigint NOT NULL,
    digest bytea NOT NULL,
    keys bytea NOT NULL,
    findings text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (region, import_id, model, min_ordinal)
);
CREATE INDEX causeway_import_chunk_order_idx ON causeway_import_chunk (region, import_id, position, min_ordinal);

-- Rows to lock by, where there is no other.
CREATE TABLE causeway_lock (
    name text PRIMARY KEY,
    taken_at timestamptz NOT NULL
);
