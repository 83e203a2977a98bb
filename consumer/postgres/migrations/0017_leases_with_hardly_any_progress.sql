-- works-with: 1
-- A process that dies of a message has often stored some before it: a lease at a position that hardly moved counts too.

COMMENT ON COLUMN consumer_offset.lease_count IS
    'How often the partition was leased since its position was leased_offset; 1 again when it has moved by more than 1,000.';
COMMENT ON COLUMN consumer_offset.leased_offset IS 'The next_offset at the first of the leases that lease_count counts.';
