-- One row: the limits on writing that an operator has set, for all processes of the region. Null: the one that the process
-- was started with. 0: none.
CREATE TABLE causeway_throttle (
    singleton boolean PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    rows_per_second bigint CHECK (rows_per_second >= 0),
    bytes_per_second bigint CHECK (bytes_per_second >= 0),
    probe_latency_ms bigint CHECK (probe_latency_ms >= 0),
    -- When they were last set, and by whom: the URI of an identity, null if callers needed none.
    set_at text,
    set_by text
);
INSERT INTO causeway_throttle (singleton) VALUES (1);
