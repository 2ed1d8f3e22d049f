-- An operation of very many organizations is done in parts, each in a transaction of its own. What is being done is noted
-- until the last part, so that whoever asks again goes on with it.
ALTER TABLE causeway_slug_operation ADD COLUMN under_way TEXT
  CHECK (under_way IN ('reserving', 'withdrawing', 'confirming', 'releasing'));
-- The last organization whose slug has been confirmed, while that is under way.
ALTER TABLE causeway_slug_operation ADD COLUMN done_through BIGINT NOT NULL DEFAULT 0;
