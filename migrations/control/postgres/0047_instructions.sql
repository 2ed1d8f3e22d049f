-- What operators tell regions to do about their imports. Regions take it with their reports.
CREATE TABLE causeway_instruction (
  -- From the form that asked, so that a form sent twice is one instruction.
  instruction_id uuid PRIMARY KEY,
  region text COLLATE "C" NOT NULL REFERENCES causeway_region (name),
  import_id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('resume', 'revert')),
  -- The URI of an identity; empty if visitors of the console need none.
  asked_by text NOT NULL,
  -- By the clock of control, as answered_at.
  asked_at timestamptz NOT NULL,
  -- Null as long as the region has not answered.
  answered_at timestamptz,
  -- Why the region has refused it: a reason of the contract, and a message for people. Null if it has carried it out.
  refused_reason text,
  refused_message text
);

-- Those of an import, for its page; and those of a region by age, which are deleted.
CREATE INDEX causeway_instruction_import_idx ON causeway_instruction (region, import_id, asked_at);
CREATE INDEX causeway_instruction_asked_idx ON causeway_instruction (region, asked_at, instruction_id);
-- What each report of a region looks for. Nearly always it is empty.
CREATE INDEX causeway_instruction_open_idx ON causeway_instruction (region, asked_at, instruction_id)
  WHERE answered_at IS NULL;
