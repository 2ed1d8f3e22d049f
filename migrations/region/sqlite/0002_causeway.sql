-- What a region keeps of its own: itself, its imports, what they wrote, leased ids.

-- One row: this database. A control tells by it whether a region of the same name is another one.
CREATE TABLE causeway_region (
    singleton boolean PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    instance_id text NOT NULL,
    name text NOT NULL
);

CREATE TABLE causeway_import (
    import_id text PRIMARY KEY,
    state text NOT NULL,
    -- A JSON list of slugs; null if all organizations are taken.
    filter text,
    merge_users boolean NOT NULL,
    hide_organizations boolean NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    created_at text NOT NULL,
    updated_at text NOT NULL,
    -- Records in the file, known after planning.
    records bigint NOT NULL,
    -- Which time it is that slugs are asked for, under another operation each time; 0 if they never were.
    slug_attempt bigint NOT NULL,
    -- The slugs of the operation stand in the organizations; what is left is to confirm.
    slugs_written boolean NOT NULL,
    -- Control's directory has the organizations.
    reported boolean NOT NULL,
    waiting_reason text,
    waiting_message text,
    waiting_since text,
    waiting_attempts bigint,
    failure_reason text,
    failure_message text,
    failure_state text
);
CREATE INDEX causeway_import_created_at_idx ON causeway_import (created_at, import_id);

-- What became of the records, by model.
CREATE TABLE causeway_import_model (
    import_id text NOT NULL REFERENCES causeway_import (import_id),
    model text NOT NULL,
    position bigint NOT NULL,
    seen bigint NOT NULL,
    inserted bigint NOT NULL,
    existing bigint NOT NULL,
    overwritten bigint NOT NULL,
    out_of_scope bigint NOT NULL,
    filtered bigint NOT NULL,
    dropped bigint NOT NULL,
    PRIMARY KEY (import_id, model)
);

-- The organizations of an import, with what they get back when it finishes.
CREATE TABLE causeway_import_organization (
    import_id text NOT NULL REFERENCES causeway_import (import_id),
    organization_id bigint NOT NULL,
    source_id bigint NOT NULL,
    wanted_slug text NOT NULL,
    name text NOT NULL,
    status bigint NOT NULL,
    -- The region had this slug when it asked control, which did not know of it.
    taken_in_region boolean NOT NULL,
    slug text,
    PRIMARY KEY (import_id, organization_id)
);

-- Values of rows in the control silo that rows of this import follow, until it ends.
CREATE TABLE causeway_import_carried (
    import_id text NOT NULL REFERENCES causeway_import (import_id),
    model text NOT NULL,
    new_pk bigint NOT NULL,
    fields text NOT NULL,
    PRIMARY KEY (import_id, model, new_pk)
);

CREATE TABLE causeway_import_finding (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    import_id text NOT NULL REFERENCES causeway_import (import_id),
    -- The state in which it was made: those of planning are made anew if planning is.
    state text NOT NULL,
    kind text NOT NULL,
    model text,
    ordinal bigint,
    source_pk bigint,
    field text,
    byte_offset bigint,
    reason text NOT NULL
);
CREATE INDEX causeway_import_finding_import_idx ON causeway_import_finding (import_id, id);
CREATE INDEX causeway_import_finding_kind_idx ON causeway_import_finding (import_id, kind, id);

-- Chunks that have been written, each in the transaction of its rows. Control has a table of the same form.
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

-- What is left of the last block of ids that control gave, by model.
CREATE TABLE causeway_id_block (
    model text PRIMARY KEY,
    next bigint NOT NULL,
    until bigint NOT NULL
);

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
