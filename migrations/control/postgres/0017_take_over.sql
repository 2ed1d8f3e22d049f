-- Which other database may register under the name of a region next, by an operator's word: its instance id, or `*` for
-- whichever comes first. Null if none may. It is null again when one has.
ALTER TABLE causeway_region ADD COLUMN taken_over_by text;
