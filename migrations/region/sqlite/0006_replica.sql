-- What control's feed has told of this region's reservations, and what is to be answered to it.

CREATE TABLE causeway_slug_replica (
    slug text NOT NULL PRIMARY KEY,
    organization_id bigint NOT NULL,
    type text NOT NULL,
    -- The primary slug of the organization, if it has one.
    canonical_slug text,
    operation_id text NOT NULL,
    -- The organization is to have this slug, and the operation is to be confirmed.
    wanted boolean NOT NULL,
    -- The snapshot that brought it, or behind which an event did. What an older one brought is gone when a snapshot ends.
    generation bigint NOT NULL
);
CREATE INDEX causeway_slug_replica_organization_idx ON causeway_slug_replica (organization_id);

-- One row: how far the feed has been followed. It moves in the transaction of what it has told.
CREATE TABLE causeway_feed_cursor (
    singleton boolean PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    -- 0 if nothing is known, or a snapshot has not ended.
    version bigint NOT NULL,
    generation bigint NOT NULL,
    -- When control last said that there is nothing more.
    heard_at text
);

-- Renames that have been done or refused here, until control has heard of it.
CREATE TABLE causeway_rename (
    operation_id text NOT NULL PRIMARY KEY,
    organization_id bigint NOT NULL,
    slug text NOT NULL,
    -- What the organization goes back to if control has given the rename up.
    previous_slug text,
    -- Null if it was done.
    refusal_reason text,
    refusal_message text,
    created_at text NOT NULL
);
