-- Where the spans of an import belong: the trace context of the call that began it, as W3C trace context writes it. Null if
-- the region sent no traces then.
ALTER TABLE causeway_import ADD COLUMN trace_parent text;
