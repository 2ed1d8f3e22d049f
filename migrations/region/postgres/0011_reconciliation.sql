-- One row: which process compares the region with control, until lease_until by its own clock unless it renews that. All
-- null if none does.
CREATE TABLE causeway_reconciliation (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    lease_holder uuid,
    lease_place text,
    -- The spool directory of the holder. Whoever has locked it knows that every earlier holder of it is dead.
    lease_spool uuid,
    lease_until timestamptz
);
INSERT INTO causeway_reconciliation (singleton) VALUES (true);

-- To which import organizations belong.
CREATE INDEX causeway_import_organization_of_idx ON causeway_import_organization (organization_id);
