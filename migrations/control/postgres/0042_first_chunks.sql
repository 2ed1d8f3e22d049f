-- When an import began to write: asked for each chunk of what belongs to users.
CREATE INDEX causeway_import_chunk_created_idx ON causeway_import_chunk (region, import_id, created_at);
