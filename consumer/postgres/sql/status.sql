-- The whole service at one moment: each statement reads little, however many visits are stored.

-- name: server
-- A standby, or a database that was made read only for every session: neither stores a visit or a heartbeat.
SELECT
    now(),
    pg_is_in_recovery() OR EXISTS (
        SELECT FROM pg_settings
        WHERE name = 'default_transaction_read_only' AND setting = 'on'
            AND source IN ('database', 'configuration file', 'command line', 'global')
    ),
    (SELECT max(version) FROM schema_version),
    to_regclass('replica') IS NOT NULL,
    (SELECT count(*) FROM open_group),
    (SELECT count(*) FROM outbox WHERE sent_at IS NULL),
    (
        SELECT extract(epoch FROM now() - created_at)::double precision
        FROM outbox WHERE sent_at IS NULL ORDER BY id LIMIT 1
    );

-- name: replicas
-- The session of a process that was killed ends at once, that of a frozen one stays.
SELECT
    owner, consumer_group, version, state, reasons, partitions, started_at,
    greatest(extract(epoch FROM clock_timestamp() - beat_at)::double precision, 0),
    EXISTS (
        SELECT FROM pg_stat_activity AS session
        WHERE session.pid = replica.backend AND starts_with(session.application_name, 'visit-consumer heartbeat')
    )
FROM replica
ORDER BY owner;

-- name: positions
-- A recreated topic is another log: the newest of each name is read.
SELECT DISTINCT ON (consumer_group, topic, partition)
    consumer_group, topic, partition, next_offset,
    extract(epoch FROM now() - updated_at)::double precision,
    nullif(stream_time_ms, 0),
    breaker
FROM consumer_offset
WHERE taken_over_by IS NULL
ORDER BY consumer_group, topic, partition, id DESC;

-- name: open_groups
-- The oldest, and which of their exposures are there.
SELECT
    waiting.instrument, waiting.group_key, waiting.opened_ms, waiting.deadline_ms, waiting.superseded_ms IS NOT NULL,
    log.topic, log.partition, nullif(log.stream_time_ms, 0),
    members.number, members.group_size, members.seq_start, members.seq_end, members.seq_nums
FROM (SELECT * FROM open_group ORDER BY opened_ms, instrument, group_key LIMIT %(limit)s) AS waiting
LEFT JOIN consumer_offset AS log ON log.id = waiting.clock
CROSS JOIN LATERAL (
    SELECT
        count(*) AS number, max(group_size) AS group_size, min(seq_start) AS seq_start, max(seq_end) AS seq_end,
        array_agg(seq_num ORDER BY seq_num) FILTER (WHERE seq_num IS NOT NULL) AS seq_nums
    FROM exposure
    WHERE exposure.instrument = waiting.instrument AND exposure.group_key = waiting.group_key
) AS members
ORDER BY waiting.opened_ms, waiting.instrument, waiting.group_key;

-- name: dead_letters
SELECT reason, count(*), max(recorded_at) FROM dead_letter WHERE status = 'open' GROUP BY reason ORDER BY reason;

-- name: tonight
-- Of the last observing day of which anything is stored.
WITH tonight AS (SELECT max(day_obs) AS day_obs FROM exposure)
SELECT day_obs, instrument, physical_filter, sum(exposures)::bigint, sum(visits)::bigint
FROM (
    SELECT day_obs, instrument, physical_filter, 1 AS exposures, 0 AS visits
    FROM exposure WHERE day_obs = (SELECT day_obs FROM tonight)
    UNION ALL
    SELECT day_obs, instrument, physical_filter, 0, 1
    FROM visit WHERE day_obs = (SELECT day_obs FROM tonight)
) AS counted
GROUP BY day_obs, instrument, physical_filter
ORDER BY instrument, physical_filter NULLS LAST;

-- name: last_visits
SELECT instrument, id, name, physical_filter, complete, revision, updated_at
FROM visit
WHERE day_obs = (SELECT max(day_obs) FROM visit)
ORDER BY updated_at DESC, instrument, id DESC
LIMIT %(limit)s;
