-- works-with: 1
-- Which leader of the partition had written the last message that was read. After an unclean election the log may end
-- below the position and then grow past it: the offsets are there again, with other messages. The epoch holds for the
-- position that stands beside it: a release that does not know these columns moves next_offset alone.

ALTER TABLE consumer_offset
    ADD COLUMN leader_epoch integer,
    ADD COLUMN leader_epoch_offset bigint;
COMMENT ON COLUMN consumer_offset.leader_epoch IS 'Epoch of the leader that had written the last message before leader_epoch_offset.';
COMMENT ON COLUMN consumer_offset.leader_epoch_offset IS 'The next_offset for which leader_epoch was stored.';
