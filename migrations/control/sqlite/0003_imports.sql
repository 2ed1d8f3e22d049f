-- What control keeps of the imports of its regions.

-- Chunks that have been written, each in the transaction of its rows. A region has a table of the same form.
CREATE TABLE causeway_import_chunk (
    region text NOT NULL,
    import_id text NOT NULL,
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
    digest blob NOT NULL,
    keys blob NOT NULL,
    findings text NOT NULL,
    created_at text NOT NULL,
    PRIMARY KEY (region, import_id, model, min_ordinal)
);
CREATE INDEX causeway_import_chunk_order_idx ON causeway_import_chunk (region, import_id, position, min_ordinal);

-- Rows to lock by, where there is no other.
CREATE TABLE causeway_lock (
    name text PRIMARY KEY,
    taken_at text NOT NULL
);

-- The next id that each model gives out, where a table has no sequence of its own.
CREATE TABLE causeway_id_counter (
    model text PRIMARY KEY,
    next bigint NOT NULL
);
