-- The audit log: a row for each call that changed something, or failed to. It is only added to.
CREATE TABLE causeway_audit (
    id integer PRIMARY KEY AUTOINCREMENT,
    time text NOT NULL,
    request_id text NOT NULL,
    -- Who called: a SPIFFE URI, the name of the service for its own work, or empty.
    who text NOT NULL,
    -- The IP address of the caller, or empty.
    address text NOT NULL,
    -- The full name of the rpc, or what a service does by itself.
    call text NOT NULL,
    object text NOT NULL,
    import_id text,
    operation_id text,
    -- A gRPC code, and the reason of an error.
    outcome text NOT NULL,
    reason text NOT NULL,
    -- How many failed calls of the same caller before this one have no row, because there were too many.
    left_out integer NOT NULL
);
CREATE INDEX causeway_audit_time_idx ON causeway_audit (time, id);
CREATE INDEX causeway_audit_who_idx ON causeway_audit (who, time, id);
CREATE INDEX causeway_audit_request_idx ON causeway_audit (request_id);
CREATE INDEX causeway_audit_object_idx ON causeway_audit (object);
CREATE INDEX causeway_audit_import_idx ON causeway_audit (import_id) WHERE import_id IS NOT NULL;
CREATE INDEX causeway_audit_operation_idx ON causeway_audit (operation_id) WHERE operation_id IS NOT NULL;

-- The chain: the position of each row, and SHA-256 over the hash before it, the position and the row, as hex.
CREATE TABLE causeway_audit_seal (
    position integer PRIMARY KEY,
    audit_id integer NOT NULL UNIQUE,
    hash text NOT NULL
);

-- The rows that are to be added to the chain.
CREATE TABLE causeway_audit_unsealed (
    audit_id integer PRIMARY KEY
);

-- One row: where the chain begins, which is position and hash of the last row that was deleted because of its age.
CREATE TABLE causeway_audit_state (
    id integer PRIMARY KEY CHECK (id = 1),
    base_position integer NOT NULL,
    base_hash text NOT NULL
);
INSERT INTO causeway_audit_state (id, base_position, base_hash)
VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

CREATE TRIGGER causeway_audit_update BEFORE UPDATE ON causeway_audit
BEGIN
    SELECT RAISE(ABORT, 'rows of causeway_audit are never changed');
END;
-- A row may be deleted once the chain begins after it.
CREATE TRIGGER causeway_audit_delete BEFORE DELETE ON causeway_audit
WHEN NOT EXISTS (
    SELECT 1 FROM causeway_audit_seal s JOIN causeway_audit_state t ON s.position <= t.base_position
    WHERE s.audit_id = OLD.id
)
BEGIN
    SELECT RAISE(ABORT, 'rows of causeway_audit are deleted only by age, see --audit-retention');
END;
CREATE TRIGGER causeway_audit_seal_update BEFORE UPDATE ON causeway_audit_seal
BEGIN
    SELECT RAISE(ABORT, 'rows of causeway_audit_seal are never changed');
END;
CREATE TRIGGER causeway_audit_seal_delete BEFORE DELETE ON causeway_audit_seal
WHEN NOT EXISTS (SELECT 1 FROM causeway_audit_state t WHERE OLD.position <= t.base_position)
BEGIN
    SELECT RAISE(ABORT, 'rows of causeway_audit_seal are deleted only by age, see --audit-retention');
END;
-- The beginning only moves forward, to a position of the chain.
CREATE TRIGGER causeway_audit_state_update BEFORE UPDATE ON causeway_audit_state
WHEN NEW.base_position < OLD.base_position OR NOT EXISTS (
    SELECT 1 FROM causeway_audit_seal s WHERE s.position = NEW.base_position AND s.hash = NEW.base_hash
)
BEGIN
    SELECT RAISE(ABORT, 'the chain of causeway_audit cannot begin there');
END;
CREATE TRIGGER causeway_audit_state_delete BEFORE DELETE ON causeway_audit_state
BEGIN
    SELECT RAISE(ABORT, 'rows of causeway_audit_state are never deleted');
END;
