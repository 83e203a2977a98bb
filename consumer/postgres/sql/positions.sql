-- Positions: who reads which partition of which log, from where.

-- name: claim_partition
-- Takes a partition over: from here on, writers with a lower epoch write nothing. It is counted how often that happens
-- with hardly any progress: one of the next messages may be what the readers die of, once they have stored some.
INSERT INTO consumer_offset AS stored (consumer_group, cluster_id, topic, topic_id, partition, epoch, owner)
VALUES (%(consumer_group)s, %(cluster_id)s, %(topic)s, %(topic_id)s, %(partition)s, 1, %(owner)s)
ON CONFLICT (consumer_group, cluster_id, topic, topic_id, partition) DO UPDATE
SET epoch = stored.epoch + 1, owner = excluded.owner, updated_at = now(), taken_over_by = NULL,
    lease_count = CASE
        WHEN stored.next_offset - stored.leased_offset BETWEEN 0 AND 1000 THEN stored.lease_count + 1 ELSE 1
    END,
    leased_offset = CASE
        WHEN stored.next_offset - stored.leased_offset BETWEEN 0 AND 1000 THEN stored.leased_offset
        ELSE stored.next_offset
    END
RETURNING id, epoch, next_offset, stream_time_ms, breaker, accept_until,
    CASE WHEN leader_epoch_offset = next_offset THEN leader_epoch END,
    (
        SELECT max(letter."offset")
        FROM dead_letter AS letter
        WHERE letter.cluster_id = stored.cluster_id AND letter.topic = stored.topic
            AND letter.topic_id = stored.topic_id AND letter.partition = stored.partition
            AND letter."offset" >= stored.next_offset AND letter.status = 'open'
    ),
    lease_count;

-- name: adopt_groups
-- A recreated topic, or one on another cluster, is another log; the stream times of the former one stand still for ever,
-- and with them the groups that it left open. Both clocks are times of day, so that the deadlines keep their meaning.
UPDATE open_group
SET clock = %(id)s
FROM consumer_offset AS former
WHERE open_group.clock = former.id AND former.consumer_group = %(consumer_group)s AND former.topic = %(topic)s
    AND (former.cluster_id, former.topic_id) <> (%(cluster_id)s, %(topic_id)s);

-- name: begin_partition
-- Where reading of a partition starts that has no position yet.
UPDATE consumer_offset
SET next_offset = %(next_offset)s, leased_offset = %(next_offset)s, updated_at = now()
WHERE id = %(id)s AND epoch = %(epoch)s AND next_offset IS NULL;

-- name: has_read
SELECT FROM consumer_offset
WHERE consumer_group = %(consumer_group)s AND topic = %(topic)s AND next_offset IS NOT NULL
LIMIT 1;

-- name: begin_topic
-- Where reading starts at the ends of a topic: all its partitions at once, so that one which is added later differs from
-- them, and read whole.
INSERT INTO consumer_offset AS stored (consumer_group, cluster_id, topic, topic_id, partition, next_offset)
SELECT %(consumer_group)s, %(cluster_id)s, %(topic)s, %(topic_id)s, given.partition, given.next_offset
FROM unnest(%(partitions)s::integer[], %(next_offsets)s::bigint[]) AS given (partition, next_offset)
ORDER BY given.partition
ON CONFLICT (consumer_group, cluster_id, topic, topic_id, partition) DO UPDATE
SET next_offset = excluded.next_offset, updated_at = now()
WHERE stored.next_offset IS NULL;

-- name: read_positions
SELECT id, epoch, next_offset, stream_time_ms, breaker, accept_until,
    CASE WHEN leader_epoch_offset = next_offset THEN leader_epoch END
FROM consumer_offset
WHERE id = ANY(%(ids)s::bigint[]);

-- name: list_positions
SELECT
    consumer_group, cluster_id, topic, topic_id, partition, next_offset, epoch, stream_time_ms, owner, updated_at,
    breaker, CASE WHEN leader_epoch_offset = next_offset THEN leader_epoch END, taken_over_by
FROM consumer_offset
ORDER BY consumer_group, cluster_id, topic, topic_id, partition;

-- name: set_position
-- An operator's decision; the raised epoch fences a running reader, which then reads from here. What is
-- read again has its own times: the clock then starts anew, or nothing of it would close as it did at first.
-- Which messages came before is not asked again, also where the offset stays: the operator has decided.
INSERT INTO consumer_offset AS stored (consumer_group, cluster_id, topic, topic_id, partition, next_offset, epoch, owner)
VALUES (%(consumer_group)s, %(cluster_id)s, %(topic)s, %(topic_id)s, %(partition)s, %(next_offset)s, 1, %(owner)s)
ON CONFLICT (consumer_group, cluster_id, topic, topic_id, partition) DO UPDATE
SET next_offset = excluded.next_offset, epoch = stored.epoch + 1, owner = excluded.owner, updated_at = now(),
    leader_epoch = NULL,
    stream_time_ms = CASE WHEN excluded.next_offset < stored.next_offset THEN 0 ELSE stored.stream_time_ms END
RETURNING id, epoch, next_offset, stream_time_ms, breaker, accept_until;

-- name: take_over_positions
-- Another name of the consumer group goes on for a former one: from its positions, where its own are not behind them,
-- and with the groups that it left open. Readers of the former name are fenced.
WITH former AS (
    UPDATE consumer_offset
    SET epoch = epoch + 1, owner = %(owner)s, updated_at = now(), taken_over_by = %(consumer_group)s
    WHERE consumer_group = %(former)s
    RETURNING *
), ours AS (
    INSERT INTO consumer_offset AS stored (
        consumer_group, cluster_id, topic, topic_id, partition, next_offset, stream_time_ms, epoch, owner, breaker,
        accept_until
    )
    SELECT
        %(consumer_group)s, cluster_id, topic, topic_id, partition, next_offset, stream_time_ms, 1, owner, breaker,
        accept_until
    FROM former
    ON CONFLICT (consumer_group, cluster_id, topic, topic_id, partition) DO UPDATE
    SET next_offset = least(stored.next_offset, excluded.next_offset), epoch = stored.epoch + 1,
        owner = excluded.owner, updated_at = now(), taken_over_by = NULL,
        stream_time_ms = CASE
            WHEN stored.next_offset IS NULL OR excluded.next_offset < stored.next_offset THEN excluded.stream_time_ms
            ELSE stored.stream_time_ms
        END
    RETURNING *
), moved AS (
    UPDATE open_group
    SET clock = ours.id
    FROM former JOIN ours USING (cluster_id, topic, topic_id, partition)
    WHERE open_group.clock = former.id
)
SELECT cluster_id, topic_id, topic, partition, next_offset, epoch FROM ours ORDER BY topic, partition, topic_id;

-- name: groups_of_positions
-- Open groups that live by the stream times of a consumer group.
SELECT count(*)
FROM open_group
JOIN consumer_offset AS log ON log.id = open_group.clock
WHERE log.consumer_group = %(group)s;

-- name: remove_positions
DELETE FROM consumer_offset WHERE consumer_group = %(group)s;

-- name: trip_breaker
UPDATE consumer_offset AS stored
SET breaker = %(detail)s, updated_at = now()
FROM unnest(%(ids)s::bigint[], %(epochs)s::bigint[]) AS ours (id, epoch)
WHERE stored.id = ours.id AND stored.epoch = ours.epoch;

-- name: reset_breaker
UPDATE consumer_offset
SET breaker = NULL, accept_until = greatest(accept_until, %(accept_until)s), updated_at = now()
WHERE consumer_group = %(consumer_group)s AND cluster_id = %(cluster_id)s AND topic = %(topic)s
    AND topic_id = %(topic_id)s AND partition = %(partition)s AND breaker IS NOT NULL;

-- name: upsert_visit_systems
INSERT INTO visit_system (instrument, id, name)
SELECT * FROM unnest(%(instruments)s::text[], %(ids)s::integer[], %(names)s::text[])
ON CONFLICT (instrument, id) DO UPDATE SET name = excluded.name WHERE visit_system.name IS DISTINCT FROM excluded.name;
