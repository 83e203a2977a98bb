-- What became of one exposure: every table that may know of it.

-- name: exposures
SELECT {exposure}, first_seen_at, updated_at, now()
FROM exposure
WHERE instrument IN (SELECT coalesce(%(instrument)s, instrument) FROM known_instrument) AND id = %(exposure)s
ORDER BY instrument;

-- name: visits
SELECT
    visit.id, visit.name, visit.complete, visit.close_reason, visit.revision, visit.defined_at, visit.updated_at,
    visit.rule, visit.algorithm, visit.camera_version, visit.padding,
    ARRAY(
        SELECT visit_system FROM visit_system_membership AS s
        WHERE s.instrument = visit.instrument AND s.visit = visit.id ORDER BY visit_system
    ),
    ARRAY(
        SELECT exposure FROM visit_definition AS d
        WHERE d.instrument = visit.instrument AND d.visit = visit.id ORDER BY exposure
    ),
    (SELECT count(*) FROM visit_detector_region AS r WHERE r.instrument = visit.instrument AND r.visit = visit.id)
FROM visit_definition AS member
JOIN visit ON visit.instrument = member.instrument AND visit.id = member.visit
WHERE member.instrument = %(instrument)s AND member.exposure = %(exposure)s
ORDER BY visit.id;

-- name: open_group
SELECT g.clock, g.opened_ms, g.last_ms, g.superseded_ms, g.latest_begin, log.topic, log.partition, log.stream_time_ms
FROM open_group AS g
LEFT JOIN consumer_offset AS log ON log.id = g.clock
WHERE g.instrument = %(instrument)s AND g.group_key = %(group_key)s;

-- name: dead_letters
-- Of the exposure, and of its group where that is known.
SELECT id, reason, detail, status, topic, partition, "offset", recorded_at, settled_at
FROM dead_letter
WHERE (exposure = %(exposure)s AND (%(instrument)s::text IS NULL OR instrument = %(instrument)s))
    OR ("offset" IS NULL AND exposure IS NULL AND instrument = %(instrument)s AND group_key = %(group_key)s)
ORDER BY id;

-- name: unattributed
-- Open dead letters of messages that could not be read far enough to say which exposure they were of.
SELECT count(*) FROM dead_letter WHERE status = 'open' AND exposure IS NULL AND "offset" IS NOT NULL;

-- name: ids_of_obs_id
SELECT instrument, id FROM exposure
WHERE obs_id = %(text)s AND instrument = coalesce(%(instrument)s::text, instrument)
ORDER BY instrument, id;

-- name: ids_of_group
-- By the name that the acquisition system gave, or by the key that the grouping rule made of it.
SELECT instrument, id FROM exposure
WHERE instrument IN (SELECT coalesce(%(instrument)s, instrument) FROM known_instrument) AND group_key = %(text)s
UNION
SELECT instrument, id FROM exposure
WHERE "group" = %(text)s AND instrument = coalesce(%(instrument)s::text, instrument)
ORDER BY instrument, id;

-- name: ids_of_visit
SELECT instrument, exposure FROM visit_definition
WHERE instrument IN (SELECT coalesce(%(instrument)s, instrument) FROM known_instrument) AND visit = %(number)s
ORDER BY instrument, exposure;

-- name: neighbours
-- The exposures of a night whose sequence numbers are next to one.
(
    SELECT id, seq_num FROM exposure
    WHERE instrument = %(instrument)s AND day_obs = %(day_obs)s AND seq_num < %(seq_num)s
    ORDER BY seq_num DESC, id DESC LIMIT 1
)
UNION ALL
(
    SELECT id, seq_num FROM exposure
    WHERE instrument = %(instrument)s AND day_obs = %(day_obs)s AND seq_num > %(seq_num)s
    ORDER BY seq_num, id LIMIT 1
);
