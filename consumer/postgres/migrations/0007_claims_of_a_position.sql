-- works-with: 1
-- How often a partition was leased while its position stood still: the next message may be what its readers die of.

ALTER TABLE consumer_offset
    ADD COLUMN claims integer NOT NULL DEFAULT 1,
    ADD COLUMN claimed_offset bigint;
COMMENT ON COLUMN consumer_offset.claims IS 'How often the partition was leased at claimed_offset.';
COMMENT ON COLUMN consumer_offset.claimed_offset IS 'The next_offset at the last lease.';
