-- The imports that have changed, for the reports to control.
CREATE INDEX causeway_import_updated_idx ON causeway_import (updated_at);
-- Those that have not ended, or have not been reported to control's directory.
CREATE INDEX causeway_import_unfinished_idx ON causeway_import (import_id)
  WHERE state IN ('planning', 'writing', 'resolving_slugs', 'finishing', 'checking', 'reverting') OR (state = 'succeeded' AND NOT reported);
