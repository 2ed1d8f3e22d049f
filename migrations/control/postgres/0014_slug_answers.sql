-- What an operation was answered is kept, so that the same call has the same answer whatever becomes of its reservations:
-- in parts of 10,000 organizations by id, each a JSON list.
CREATE TABLE causeway_slug_operation_answer (
  region text COLLATE "C" NOT NULL,
  operation_id uuid NOT NULL,
  part bigint NOT NULL,
  answers text NOT NULL,
  PRIMARY KEY (region, operation_id, part)
);

-- What its confirmation and its release came to, which is answered again too.
ALTER TABLE causeway_slug_operation ADD COLUMN confirmed_count bigint NOT NULL DEFAULT 0;
ALTER TABLE causeway_slug_operation ADD COLUMN released_count bigint NOT NULL DEFAULT 0;
UPDATE causeway_slug_operation SET confirmed_count = organization_count WHERE state = 'confirmed';
