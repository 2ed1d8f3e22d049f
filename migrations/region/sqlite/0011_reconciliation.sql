-- One row: which process compares the region with control, until lease_until by its own clock unless it renews that. All
-- null if none does.
CREATE TABLE causeway_reconciliation (
    singleton boolean PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    lease_holder text,
    lease_place text,
    -- The spool directory of the holder. Whoever has locked it knows that every earlier holder of it is dead.
    lease_spool text,
    lease_until text
);
INSERT INTO causeway_reconciliation (singleton) VALUES (1);

-- To which import organizations belong.
CREATE INDEX causeway_import_organization_of_idx ON causeway_import_organization (organization_id);
