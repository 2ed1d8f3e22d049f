-- The audit log: a row for each call that changed something, or failed to. It is only added to.
CREATE TABLE causeway_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time timestamptz NOT NULL,
    request_id uuid NOT NULL,
    -- Who called: a SPIFFE URI, the name of the service for its own work, or empty.
    who text NOT NULL,
    -- The IP address of the caller, or empty.
    address text NOT NULL,
    -- The full name of the rpc, or what a service does by itself.
    call text NOT NULL,
    object text NOT NULL,
    import_id uuid,
    operation_id uuid,
    -- A gRPC code, and the reason of an error.
    outcome text NOT NULL,
    reason text NOT NULL,
    -- How many failed calls of the same caller before this one have no row, because there were too many.
    left_out bigint NOT NULL
);
CREATE INDEX causeway_audit_time_idx ON causeway_audit (time, id);
CREATE INDEX causeway_audit_who_idx ON causeway_audit (who, time, id);
CREATE INDEX causeway_audit_request_idx ON causeway_audit (request_id);
CREATE INDEX causeway_audit_object_idx ON causeway_audit (object);
CREATE INDEX causeway_audit_import_idx ON causeway_audit (import_id) WHERE import_id IS NOT NULL;
CREATE INDEX causeway_audit_operation_idx ON causeway_audit (operation_id) WHERE operation_id IS NOT NULL;

-- The chain: the position of each row, and SHA-256 over the hash before it, the position and the row, as hex.
CREATE TABLE causeway_audit_seal (
    position bigint PRIMARY KEY,
    audit_id bigint NOT NULL UNIQUE,
    hash text NOT NULL
);

-- The rows that are to be added to the chain.
CREATE TABLE causeway_audit_unsealed (
    audit_id bigint PRIMARY KEY
);

-- One row: where the chain begins, which is position and hash of the last row that was deleted because of its age. Who
-- adds to the chain, or deletes from it, locks this row.
CREATE TABLE causeway_audit_state (
    id bigint PRIMARY KEY CHECK (id = 1),
    base_position bigint NOT NULL,
    base_hash text NOT NULL
);
INSERT INTO causeway_audit_state (id, base_position, base_hash) VALUES (1, 0, repeat('0', 64));

CREATE FUNCTION causeway_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed or deleted', TG_TABLE_NAME;
END
$$;

-- A row may be deleted once the chain begins after it.
CREATE FUNCTION causeway_audit_keep_row() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM causeway_audit_seal s JOIN causeway_audit_state t ON s.position <= t.base_position
        WHERE s.audit_id = OLD.id
    ) THEN
        RAISE EXCEPTION 'rows of causeway_audit are deleted only by age, see --audit-retention';
    END IF;
    RETURN OLD;
END
$$;

CREATE FUNCTION causeway_audit_keep_seal() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM causeway_audit_state t WHERE OLD.position <= t.base_position) THEN
        RAISE EXCEPTION 'rows of causeway_audit_seal are deleted only by age, see --audit-retention';
    END IF;
    RETURN OLD;
END
$$;

-- The beginning only moves forward, to a position of the chain.
CREATE FUNCTION causeway_audit_keep_base() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.base_position < OLD.base_position OR NOT EXISTS (
        SELECT 1 FROM causeway_audit_seal s WHERE s.position = NEW.base_position AND s.hash = NEW.base_hash
    ) THEN
        RAISE EXCEPTION 'the chain of causeway_audit cannot begin there';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER causeway_audit_update BEFORE UPDATE ON causeway_audit
    FOR EACH ROW EXECUTE FUNCTION causeway_audit_refuse();
CREATE TRIGGER causeway_audit_delete BEFORE DELETE ON causeway_audit
    FOR EACH ROW EXECUTE FUNCTION causeway_audit_keep_row();
CREATE TRIGGER causeway_audit_truncate BEFORE TRUNCATE ON causeway_audit
    FOR EACH STATEMENT EXECUTE FUNCTION causeway_audit_refuse();
CREATE TRIGGER causeway_audit_seal_update BEFORE UPDATE ON causeway_audit_seal
    FOR EACH ROW EXECUTE FUNCTION causeway_audit_refuse();
CREATE TRIGGER causeway_audit_seal_delete BEFORE DELETE ON causeway_audit_seal
    FOR EACH ROW EXECUTE FUNCTION causeway_audit_keep_seal();
CREATE TRIGGER causeway_audit_seal_truncate BEFORE TRUNCATE ON causeway_audit_seal
    FOR EACH STATEMENT EXECUTE FUNCTION causeway_audit_refuse();
CREATE TRIGGER causeway_audit_state_update BEFORE UPDATE ON causeway_audit_state
    FOR EACH ROW EXECUTE FUNCTION causeway_audit_keep_base();
CREATE TRIGGER causeway_audit_state_delete BEFORE DELETE ON causeway_audit_state
    FOR EACH ROW EXECUTE FUNCTION causeway_audit_refuse();
CREATE TRIGGER causeway_audit_state_truncate BEFORE TRUNCATE ON causeway_audit_state
    FOR EACH STATEMENT EXECUTE FUNCTION causeway_audit_refuse();
