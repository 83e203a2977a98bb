-- works-with: 1
-- How often a partition was leased while its position stood still: the next message may be what its readers die of.

ALTER TABLE consumer_offset
    ADD COLUMN lease_count integer NOT NULL DEFAULT 1,
    ADD COLUMN leased_offset bigint;
COMMENT ON COLUMN consumer_offset.lease_count IS 'How often the partition was leased at leased_offset.';
COMMENT ON COLUMN consumer_offset.leased_offset IS 'The next_offset at the last lease.';
