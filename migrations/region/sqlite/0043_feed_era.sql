-- The era of control's feed whose snapshot the region has read last. Another one means that control was put back from an
-- old copy of its database.
ALTER TABLE causeway_feed_cursor ADD COLUMN era bigint NOT NULL DEFAULT 0;
