-- The statements of a batch's transaction, in the order in which they run. Parameters that are arrays have one element
-- for each row. Rows are taken in the order of their keys, so that two replicas never wait for each other in a circle.

-- name: advance_positions
-- The fence: nothing of a batch is written unless every one of these rows is still at our epoch and where we left it, and
-- this session still stands in our schema: a pooler may have given it to another service.
WITH moved AS (
    UPDATE consumer_offset AS stored
    SET next_offset = batch.next_offset, stream_time_ms = greatest(stored.stream_time_ms, batch.stream_time_ms),
        leader_epoch = batch.leader_epoch, leader_epoch_offset = batch.next_offset, updated_at = now()
    FROM (
        SELECT *
        FROM unnest(
            %(ids)s::bigint[], %(epochs)s::bigint[], %(expected)s::bigint[], %(next_offsets)s::bigint[],
            %(stream_times)s::bigint[], %(leader_epochs)s::integer[]
        ) AS given (id, epoch, expected, next_offset, stream_time_ms, leader_epoch)
        ORDER BY id
    ) AS batch
    WHERE stored.id = batch.id
        AND stored.epoch = batch.epoch
        AND stored.next_offset IS NOT DISTINCT FROM batch.expected
    RETURNING stored.id
)
SELECT current_schema(), (SELECT count(*) FROM moved);

-- name: insert_exposures
-- New exposures; those that exist already are not returned, and then read under a lock.
INSERT INTO exposure ({exposure_columns})
SELECT {exposure_columns}
FROM jsonb_populate_recordset(NULL::exposure, %(exposures)s::jsonb)
ORDER BY instrument, id
ON CONFLICT (instrument, id) DO NOTHING
RETURNING instrument, id;

-- name: lock_exposures
SELECT {exposure}
FROM exposure
WHERE (instrument, id) IN (SELECT * FROM unnest(%(instruments)s::text[], %(ids)s::bigint[]))
ORDER BY instrument, id
FOR UPDATE;

-- name: update_exposures
-- Merged records of exposures that this transaction has locked.
UPDATE exposure AS stored
SET ({exposure_columns}, updated_at) = ROW({merged}, now())
FROM jsonb_populate_recordset(NULL::exposure, %(exposures)s::jsonb) AS merged
WHERE stored.instrument = merged.instrument AND stored.id = merged.id;

-- name: add_detectors
-- Raws of exposures whose record did not change: only the detectors that have arrived do.
UPDATE exposure AS stored
SET detectors = seen.detectors, updated_at = now()
FROM unnest(%(instruments)s::text[], %(ids)s::bigint[], %(detectors)s::int4multirange[]) AS seen (instrument, id, detectors)
WHERE stored.instrument = seen.instrument AND stored.id = seen.id;

-- name: raw_regions
SELECT instrument, exposure, detector, region, pointing_ra, pointing_dec, pointing_sky_angle, record_version
FROM raw_region
WHERE (instrument, exposure) IN (SELECT * FROM unnest(%(instruments)s::text[], %(exposures)s::bigint[]));

-- name: insert_raw_regions
-- Of announcements of one raw at equal version the first stays; a higher version replaces it.
INSERT INTO raw_region (
    instrument, exposure, detector, region, pointing_ra, pointing_dec, pointing_sky_angle, record_version
)
SELECT *
FROM unnest(
    %(instruments)s::text[], %(exposures)s::bigint[], %(detectors)s::integer[], %(regions)s::bytea[],
    %(ras)s::double precision[], %(decs)s::double precision[], %(sky_angles)s::double precision[],
    %(record_versions)s::bigint[]
) AS given (instrument, exposure, detector, region, ra, dec, sky_angle, record_version)
ORDER BY instrument, exposure, detector
ON CONFLICT (instrument, exposure, detector) DO UPDATE
SET region = excluded.region, pointing_ra = excluded.pointing_ra, pointing_dec = excluded.pointing_dec,
    pointing_sky_angle = excluded.pointing_sky_angle, record_version = excluded.record_version
WHERE raw_region.record_version < excluded.record_version;

-- name: open_groups
-- Claims the rows of groups that a batch changes before their exposures are read: of two replicas that each bring one
-- half of a group, the second waits here and then sees both. A row that this statement made has deadline 0. The update
-- changes nothing; it takes the lock, also where another transaction is just deleting the row.
INSERT INTO open_group AS stored (instrument, group_key, clock, opened_ms, last_ms, deadline_ms)
SELECT instrument, group_key, 0, 0, 0, 0
FROM unnest(%(instruments)s::text[], %(group_keys)s::text[]) AS given (instrument, group_key)
ORDER BY instrument, group_key
ON CONFLICT (instrument, group_key) DO UPDATE SET clock = stored.clock
RETURNING instrument, group_key, clock, opened_ms, last_ms, superseded_ms, latest_begin, deadline_ms;

-- name: lock_due_groups
-- Groups that fall due by the batch's stream times, or that an exposure of the batch supersedes. Most often there is none,
-- but the planner cannot know: LIMIT keeps it from reading all open groups instead of two indexes, and a batch from
-- locking more of them than a transaction may close. Instruments that are not configured are skipped, here and below:
-- their groups never close, and would fill the LIMIT.
SELECT instrument, group_key, clock, opened_ms, last_ms, superseded_ms, latest_begin, deadline_ms
FROM open_group
WHERE (instrument, group_key) IN (
    SELECT waiting.instrument, waiting.group_key
    FROM unnest(%(clocks)s::bigint[], %(clocks_ms)s::bigint[]) AS due (clock, clock_ms)
    CROSS JOIN LATERAL (
        SELECT instrument, group_key
        FROM open_group
        WHERE clock = due.clock AND deadline_ms <= due.clock_ms AND instrument = ANY(%(instruments)s::text[])
        LIMIT %(most)s
    ) AS waiting
    UNION
    SELECT waiting.instrument, waiting.group_key
    FROM unnest(%(later_clocks)s::bigint[], %(later_instruments)s::text[], %(later_begins)s::bigint[])
        AS later (clock, instrument, begin)
    CROSS JOIN LATERAL (
        SELECT instrument, group_key
        FROM open_group
        WHERE superseded_ms IS NULL AND clock = later.clock AND instrument = later.instrument
            AND latest_begin < later.begin
        LIMIT %(most)s
    ) AS waiting
)
ORDER BY instrument, group_key
FOR UPDATE;

-- name: lock_first_due_groups
-- The groups with the earliest deadlines that a tick makes due.
SELECT instrument, group_key, clock, opened_ms, last_ms, superseded_ms, latest_begin, deadline_ms
FROM open_group
WHERE (instrument, group_key) IN (
    SELECT waiting.instrument, waiting.group_key
    FROM unnest(%(clocks)s::bigint[], %(clocks_ms)s::bigint[]) AS due (clock, clock_ms)
    CROSS JOIN LATERAL (
        SELECT instrument, group_key, deadline_ms
        FROM open_group
        WHERE clock = due.clock AND deadline_ms <= due.clock_ms AND instrument = ANY(%(instruments)s::text[])
        ORDER BY deadline_ms, instrument, group_key
        LIMIT %(most)s
    ) AS waiting
    ORDER BY waiting.deadline_ms, waiting.instrument, waiting.group_key
    LIMIT %(most)s
)
ORDER BY instrument, group_key
FOR UPDATE;

-- name: group_members
SELECT {exposure}
FROM exposure
WHERE (instrument, group_key) IN (SELECT * FROM unnest(%(instruments)s::text[], %(group_keys)s::text[]));

-- name: few_group_members
-- Of a group that has more than so many, one exposure stands for all: counting them, too, ends there.
SELECT size.large, {exposure}
FROM unnest(%(instruments)s::text[], %(group_keys)s::text[]) AS given (instrument, group_key)
CROSS JOIN LATERAL (
    SELECT EXISTS (
        SELECT FROM exposure
        WHERE instrument = given.instrument AND group_key = given.group_key
        OFFSET %(most)s
    ) AS large
    OFFSET 0  -- once, not where it is used
) AS size
CROSS JOIN LATERAL (
    SELECT *
    FROM exposure
    WHERE instrument = given.instrument AND group_key = given.group_key
    LIMIT CASE WHEN size.large THEN 1 END
) AS exposure;

-- name: store_groups
-- Groups that stay open; their rows are locked, and so exist.
UPDATE open_group AS stored
SET clock = given.clock, opened_ms = given.opened_ms, last_ms = given.last_ms, superseded_ms = given.superseded_ms,
    latest_begin = given.latest_begin, deadline_ms = given.deadline_ms
FROM unnest(
    %(instruments)s::text[], %(group_keys)s::text[], %(clocks)s::bigint[], %(opened)s::bigint[], %(last)s::bigint[],
    %(superseded)s::bigint[], %(latest_begins)s::bigint[], %(deadlines)s::bigint[]
) AS given (instrument, group_key, clock, opened_ms, last_ms, superseded_ms, latest_begin, deadline_ms)
WHERE stored.instrument = given.instrument AND stored.group_key = given.group_key;

-- name: delete_groups
DELETE FROM open_group
WHERE (instrument, group_key) IN (SELECT * FROM unnest(%(instruments)s::text[], %(group_keys)s::text[]));

-- name: lock_visits
-- Stored visits that have the id, the name or the group of a visit that the batch defines.
SELECT instrument, id, name, group_key, inputs_hash, region
FROM visit
WHERE (instrument, id) IN (
    SELECT instrument, id FROM unnest(%(instruments)s::text[], %(ids)s::bigint[]) AS given (instrument, id)
    UNION
    SELECT instrument, visit.id
    FROM unnest(%(instruments)s::text[], %(names)s::text[]) AS given (instrument, name)
    JOIN visit USING (instrument, name)
    UNION
    SELECT instrument, visit.id
    FROM unnest(%(group_instruments)s::text[], %(group_keys)s::text[]) AS given (instrument, group_key)
    JOIN visit USING (instrument, group_key)
)
ORDER BY instrument, id
FOR UPDATE;

-- name: delete_visits
-- The removal is a revision too, and outlives the visit: readers ignore one of the same id that is not above it.
WITH gone AS (
    DELETE FROM visit
    WHERE (instrument, id) IN (SELECT * FROM unnest(%(instruments)s::text[], %(ids)s::bigint[]))
    RETURNING instrument, id, revision + 1 AS revision, name, complete, close_reason, day_obs, physical_filter,
        timespan_begin, timespan_end, region
), retired AS (
    INSERT INTO retired_visit (instrument, id, revision)
    SELECT instrument, id, revision FROM gone ORDER BY instrument, id
    ON CONFLICT (instrument, id) DO UPDATE
    SET revision = greatest(retired_visit.revision, excluded.revision), retired_at = now()
)
SELECT * FROM gone ORDER BY instrument, id;

-- name: delete_definitions
DELETE FROM visit_definition
WHERE (instrument, visit) IN (SELECT * FROM unnest(%(instruments)s::text[], %(ids)s::bigint[]));

-- name: delete_memberships
DELETE FROM visit_system_membership
WHERE (instrument, visit) IN (SELECT * FROM unnest(%(instruments)s::text[], %(ids)s::bigint[]));

-- name: delete_detector_regions
DELETE FROM visit_detector_region
WHERE (instrument, visit) IN (SELECT * FROM unnest(%(instruments)s::text[], %(ids)s::bigint[]));

-- name: delete_htm7
-- By the trixels of the visit's stored region: the table has no index by visit, which each write would pay for.
DELETE FROM visit_htm7
WHERE (htm7, instrument, visit)
    IN (SELECT * FROM unnest(%(trixels)s::integer[], %(instruments)s::text[], %(ids)s::bigint[]));

-- name: delete_obscore
DELETE FROM visit_obscore
WHERE (instrument_name, visit) IN (SELECT * FROM unnest(%(instruments)s::text[], %(ids)s::bigint[]));

-- name: upsert_obscore
-- A row that a former release could not remove may be there.
INSERT INTO visit_obscore ({obscore})
SELECT * FROM unnest({obscore_arrays})
ON CONFLICT (instrument_name, visit) DO UPDATE SET {obscore_excluded};

-- name: upsert_visits
-- A visit is rewritten only by its own group and when its inputs hash differs; its revision counts the rewrites, and
-- goes on where a visit of this id ended. Where another group took the id since we looked, a row is missing from the
-- answer, and the batch starts again.
INSERT INTO visit (
    instrument, id, day_obs, physical_filter, name, seq_num, exposure_time, target_name, observation_reason,
    science_program, azimuth, zenith_angle, region, timespan_begin, timespan_end, group_key, complete, inputs_hash,
    rule, algorithm, camera_version, padding, close_reason, software_version, revision
)
SELECT
    given.*,
    1 + coalesce((SELECT revision FROM retired_visit WHERE instrument = given.instrument AND id = given.id), 0)
FROM unnest(
    %(instruments)s::text[], %(ids)s::bigint[], %(day_obs)s::integer[], %(physical_filters)s::text[],
    %(names)s::text[], %(seq_nums)s::bigint[], %(exposure_times)s::double precision[], %(target_names)s::text[],
    %(observation_reasons)s::text[], %(science_programs)s::text[], %(azimuths)s::double precision[],
    %(zenith_angles)s::double precision[], %(regions)s::bytea[], %(timespan_begins)s::bigint[],
    %(timespan_ends)s::bigint[], %(group_keys)s::text[], %(completes)s::boolean[], %(inputs_hashes)s::bytea[],
    %(rules)s::text[], %(algorithms)s::text[], %(camera_versions)s::text[], %(paddings)s::integer[],
    %(close_reasons)s::text[], %(software_versions)s::text[]
) AS given (
    instrument, id, day_obs, physical_filter, name, seq_num, exposure_time, target_name, observation_reason,
    science_program, azimuth, zenith_angle, region, timespan_begin, timespan_end, group_key, complete, inputs_hash,
    rule, algorithm, camera_version, padding, close_reason, software_version
)
ON CONFLICT (instrument, id) DO UPDATE
SET day_obs = excluded.day_obs, physical_filter = excluded.physical_filter, name = excluded.name,
    seq_num = excluded.seq_num, exposure_time = excluded.exposure_time, target_name = excluded.target_name,
    observation_reason = excluded.observation_reason, science_program = excluded.science_program,
    azimuth = excluded.azimuth, zenith_angle = excluded.zenith_angle, region = excluded.region,
    timespan_begin = excluded.timespan_begin, timespan_end = excluded.timespan_end, group_key = excluded.group_key,
    complete = excluded.complete, inputs_hash = excluded.inputs_hash, rule = excluded.rule,
    algorithm = excluded.algorithm, camera_version = excluded.camera_version, padding = excluded.padding,
    close_reason = excluded.close_reason, software_version = excluded.software_version,
    revision = visit.revision + 1, updated_at = now()
WHERE visit.group_key = excluded.group_key AND visit.inputs_hash IS DISTINCT FROM excluded.inputs_hash
RETURNING instrument, id, revision;

-- name: insert_definitions
INSERT INTO visit_definition (instrument, visit, exposure)
SELECT * FROM unnest(%(instruments)s::text[], %(visits)s::bigint[], %(exposures)s::bigint[])
ON CONFLICT (instrument, visit, exposure) DO NOTHING;

-- name: insert_memberships
INSERT INTO visit_system_membership (instrument, visit, visit_system)
SELECT * FROM unnest(%(instruments)s::text[], %(visits)s::bigint[], %(visit_systems)s::integer[])
ON CONFLICT (instrument, visit, visit_system) DO NOTHING;

-- name: insert_detector_regions
-- Of visits that have the same detectors, with regions of the same lengths: nearly always all of a batch. The regions of
-- a visit come as one value, one after the other, and are cut here; starts count from 1. An array element for each row
-- would cost the client ten times as much, and the server a quarter more.
INSERT INTO visit_detector_region (instrument, visit, detector, region)
SELECT given.instrument, given.visit, cut.detector, substr(given.regions, cut.start, cut.length)
FROM unnest(%(instruments)s::text[], %(visits)s::bigint[], %(regions)b::bytea[]) AS given (instrument, visit, regions)
CROSS JOIN LATERAL unnest(%(detectors)s::integer[], %(starts)s::integer[], %(lengths)s::integer[])
    AS cut (detector, start, length);

-- name: copy_detector_regions
-- Of visits that are new for sure: half the server's work of the statement before.
COPY visit_detector_region (instrument, visit, detector, region) FROM STDIN (FORMAT binary);

-- name: insert_htm7
-- The trixels of a visit come as the text of an array: rows of different numbers of trixels are no array of arrays.
INSERT INTO visit_htm7 (htm7, instrument, visit)
SELECT trixel, given.instrument, given.visit
FROM unnest(%(instruments)s::text[], %(visits)s::bigint[], %(trixels)s::text[]) AS given (instrument, visit, trixels)
CROSS JOIN LATERAL unnest(given.trixels::integer[]) AS trixel
ON CONFLICT (htm7, instrument, visit) DO NOTHING;

-- name: insert_dead_letters_of_messages
-- One dead letter for each message, for good: what an operator closed stays closed when the log is read again. Where a
-- later leader has put another message in the place of a lost one, that one's takes its place here, too.
INSERT INTO dead_letter (
    reason, detail, instrument, exposure, group_key, cluster_id, topic, topic_id, partition, "offset", key, value,
    message_at
)
SELECT given.reason, given.detail, given.instrument, given.exposure, given.group_key, log.cluster_id, log.topic,
    log.topic_id, log.partition, given."offset", given.key, given.value, to_timestamp(given.message_ms / 1000.0)
FROM unnest(
    %(reasons)s::text[], %(details)s::text[], %(instruments)s::text[], %(exposures)s::bigint[], %(group_keys)s::text[],
    %(clocks)s::bigint[], %(offsets)s::bigint[], %(keys)s::bytea[], %(values)s::bytea[], %(messages_ms)s::bigint[]
) AS given (reason, detail, instrument, exposure, group_key, clock, "offset", key, value, message_ms)
JOIN consumer_offset AS log ON log.id = given.clock
ORDER BY log.id, given."offset"
ON CONFLICT (cluster_id, topic, topic_id, partition, "offset") WHERE "offset" IS NOT NULL DO UPDATE
SET reason = excluded.reason, detail = excluded.detail, instrument = excluded.instrument, exposure = excluded.exposure,
    group_key = excluded.group_key, key = excluded.key, value = excluded.value, message_at = excluded.message_at,
    status = 'open', settled_at = NULL
WHERE (dead_letter.key, dead_letter.value, dead_letter.message_at)
    IS DISTINCT FROM (excluded.key, excluded.value, excluded.message_at);

-- name: insert_dead_letters_of_subjects
-- Dead-lettered groups and exposures have one dead letter for each reason; it opens again when they fail again.
INSERT INTO dead_letter (reason, detail, instrument, exposure, group_key)
SELECT *
FROM unnest(
    %(reasons)s::text[], %(details)s::text[], %(instruments)s::text[], %(exposures)s::bigint[], %(group_keys)s::text[]
) AS given (reason, detail, instrument, exposure, group_key)
ORDER BY instrument, reason, group_key, exposure
ON CONFLICT (instrument, reason, group_key, exposure) WHERE "offset" IS NULL DO UPDATE
SET detail = excluded.detail, status = 'open', settled_at = NULL
WHERE (dead_letter.detail, dead_letter.status) IS DISTINCT FROM (excluded.detail, 'open');

-- name: refused_groups
SELECT DISTINCT instrument, group_key
FROM dead_letter
WHERE reason = 'visit_conflict' AND status = 'open' AND "offset" IS NULL AND instrument = ANY(%(instruments)s::text[])
    AND group_key IS NOT NULL;

-- name: resolve_dead_letters
-- Groups that failed before and are visits now. A dead letter of one of their exposures is another matter.
UPDATE dead_letter
SET status = 'resolved', settled_at = now()
WHERE "offset" IS NULL AND status = 'open' AND exposure IS NULL
    AND (instrument, group_key) IN (SELECT * FROM unnest(%(instruments)s::text[], %(group_keys)s::text[]));

-- name: resolve_dead_letters_of_exposures
-- Exposures that were off sky, and are on sky or in another group by a correction.
UPDATE dead_letter
SET status = 'resolved', settled_at = now()
WHERE "offset" IS NULL AND status = 'open' AND reason = 'not_on_sky'
    AND (instrument, exposure) IN (SELECT * FROM unnest(%(instruments)s::text[], %(ids)s::bigint[]));

-- name: resolve_dead_letters_of_messages
-- Messages that are read again, and are good events now.
UPDATE dead_letter
SET status = 'resolved', settled_at = now()
FROM unnest(%(clocks)s::bigint[], %(offsets)s::bigint[]) AS given (clock, "offset")
JOIN consumer_offset AS log ON log.id = given.clock
WHERE dead_letter.cluster_id = log.cluster_id AND dead_letter.topic = log.topic
    AND dead_letter.topic_id = log.topic_id AND dead_letter.partition = log.partition
    AND dead_letter."offset" = given."offset" AND dead_letter.status = 'open';

-- name: insert_outbox
INSERT INTO outbox (instrument, visit, revision, payload)
SELECT * FROM unnest(%(instruments)s::text[], %(visits)s::bigint[], %(revisions)s::integer[], %(payloads)s::bytea[]);

-- name: next_deadlines
SELECT clock, min(deadline_ms), count(*), min(opened_ms)
FROM open_group
WHERE clock = ANY(%(clocks)s::bigint[])
GROUP BY clock;
