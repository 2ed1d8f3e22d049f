-- Instructions of control that this region has carried out or refused: each is noted in the transaction of its change, so that
-- none is carried out twice.
CREATE TABLE causeway_instruction (
  instruction_id text PRIMARY KEY,
  import_id text NOT NULL,
  -- As the contract names it, such as RESUME.
  kind text NOT NULL,
  -- Who has asked for it, as control says: the URI of an identity, or empty.
  asked_by text NOT NULL,
  noted_at text NOT NULL,
  -- Why it was refused; null if it was carried out.
  refused_reason text,
  refused_message text,
  -- Whether control has the answer.
  answered boolean NOT NULL DEFAULT 0
);

CREATE INDEX causeway_instruction_noted_idx ON causeway_instruction (noted_at);
-- What each report looks for. Nearly always it is empty.
CREATE INDEX causeway_instruction_unanswered_idx ON causeway_instruction (noted_at, instruction_id) WHERE NOT answered;
