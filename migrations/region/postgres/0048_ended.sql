-- When an import last ended. Null: it has not, or a release without this column has ended it.
ALTER TABLE causeway_import ADD COLUMN ended_at timestamptz;
