-- The imports that have changed, for the reports to control.
CREATE INDEX causeway_import_updated_idx ON causeway_import (updated_at);
