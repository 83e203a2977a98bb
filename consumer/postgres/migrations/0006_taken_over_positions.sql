-- works-with: 1
-- Positions of a consumer group that goes on under another name stay for the record, and are nobody's: their lag means
-- nothing. A group of the former name that runs again takes its rows back.

ALTER TABLE consumer_offset ADD COLUMN taken_over_by text;
COMMENT ON COLUMN consumer_offset.taken_over_by IS 'The consumer group that goes on from here; null while this one does.';
