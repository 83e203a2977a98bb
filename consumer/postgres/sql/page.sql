-- What the page for people asks. No answer grows with the number of stored visits: each has a limit, or is of one night.

-- name: last_day
SELECT now(), max(day_obs) FROM exposure;

-- name: nights
-- From night to night by the index: the rows between are not read.
WITH RECURSIVE night AS (
    SELECT max(day_obs) AS day_obs, 1 AS number FROM exposure WHERE day_obs < %(before)s
    UNION ALL
    SELECT (SELECT max(day_obs) FROM exposure WHERE exposure.day_obs < night.day_obs), number + 1
    FROM night WHERE night.day_obs IS NOT NULL AND number < %(limit)s
)
SELECT
    day_obs,
    (SELECT count(*) FROM exposure WHERE exposure.day_obs = night.day_obs),
    (SELECT count(*) FROM visit WHERE visit.day_obs = night.day_obs)
FROM night WHERE day_obs IS NOT NULL ORDER BY day_obs DESC;

-- name: counts
SELECT
    instrument, physical_filter, sum(exposures)::bigint, sum(visits)::bigint, sum(complete)::bigint,
    sum(incomplete)::bigint
FROM (
    SELECT instrument, physical_filter, 1 AS exposures, 0 AS visits, 0 AS complete, 0 AS incomplete
    FROM exposure WHERE day_obs = %(day_obs)s
    UNION ALL
    SELECT
        instrument, physical_filter, 0, 1, (complete IS NOT DISTINCT FROM true)::integer,
        (complete IS NOT DISTINCT FROM false)::integer
    FROM visit WHERE day_obs = %(day_obs)s
) AS counted
GROUP BY instrument, physical_filter
ORDER BY instrument, physical_filter NULLS LAST;

-- name: latency
-- From the end of the last exposure to the commit. The difference between TAI and UTC is that of the day.
SELECT
    count(*),
    percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (
        ORDER BY extract(epoch FROM defined_at)::double precision - (timespan_end / 1e9::double precision - %(tai_utc_s)s)
    )
FROM visit
WHERE day_obs = %(day_obs)s AND timespan_end IS NOT NULL;

-- name: last_keys
SELECT instrument, id FROM visit WHERE day_obs = %(day_obs)s ORDER BY updated_at DESC, instrument, id DESC LIMIT %(limit)s;

-- name: night_keys
SELECT instrument, id
FROM visit
WHERE day_obs = %(day_obs)s
    AND (%(instrument)s::text IS NULL OR instrument = %(instrument)s)
    AND (%(after_instrument)s::text IS NULL OR (instrument, id) > (%(after_instrument)s::text, %(after_visit)s::bigint))
ORDER BY instrument, id
LIMIT %(limit)s;

-- name: changed_keys
-- The newest first. updated_at is not in the order of commits: who follows it looks back a while.
SELECT instrument, id, revision, updated_at
FROM visit WHERE updated_at >= %(since)s
ORDER BY updated_at DESC
LIMIT %(limit)s;

-- name: visits
-- By key, in the order of the keys.
SELECT
    visit.instrument, visit.id, visit.name, visit.day_obs, visit.seq_num, visit.physical_filter, visit.target_name,
    visit.observation_reason, visit.science_program, visit.exposure_time, visit.timespan_begin, visit.timespan_end,
    visit.complete, visit.revision, visit.defined_at, visit.updated_at, visit.region
FROM unnest(%(instruments)s::text[], %(visits)s::bigint[]) WITH ORDINALITY AS wanted (instrument, id, number)
JOIN visit ON visit.instrument = wanted.instrument AND visit.id = wanted.id
ORDER BY wanted.number;

-- name: visit
SELECT
    group_key, rule, algorithm, camera_version, padding, close_reason, software_version,
    ARRAY(
        SELECT visit_system FROM visit_system_membership AS s
        WHERE s.instrument = visit.instrument AND s.visit = visit.id ORDER BY visit_system
    )
FROM visit WHERE instrument = %(instrument)s AND id = %(visit)s;

-- name: members
SELECT
    exposure.id, exposure.obs_id, exposure.seq_num, exposure.detectors::text, exposure.expected_detectors::text
FROM visit_definition AS member
JOIN exposure ON exposure.instrument = member.instrument AND exposure.id = member.exposure
WHERE member.instrument = %(instrument)s AND member.visit = %(visit)s
ORDER BY exposure.id
LIMIT %(limit)s;

-- name: detectors
SELECT detector, region FROM visit_detector_region
WHERE instrument = %(instrument)s AND visit = %(visit)s
ORDER BY detector;

-- name: near
-- The newest of those whose region may overlap one of these trixels.
SELECT visit.instrument, visit.id, visit.region
FROM (SELECT DISTINCT instrument, visit FROM visit_htm7 WHERE htm7 = ANY(%(trixels)s::integer[])) AS near
JOIN visit ON visit.instrument = near.instrument AND visit.id = near.visit
WHERE %(instrument)s::text IS NULL OR visit.instrument = %(instrument)s
ORDER BY visit.day_obs DESC, visit.id DESC, visit.instrument
LIMIT %(limit)s;

-- name: search
-- Each kind by an index of its own.
SELECT kind, found.instrument, id, label, day_obs
FROM (
    SELECT 1 AS rank, 'visit' AS kind, v.instrument, v.id, v.name AS label, v.day_obs
    FROM known_instrument AS known JOIN visit AS v ON v.instrument = known.instrument AND v.id = %(number)s::bigint
    UNION ALL
    SELECT 2, 'exposure', e.instrument, e.id, e.obs_id, e.day_obs
    FROM known_instrument AS known JOIN exposure AS e ON e.instrument = known.instrument AND e.id = %(number)s::bigint
    UNION ALL
    SELECT 3, 'visit', v.instrument, v.id, v.name, v.day_obs
    FROM known_instrument AS known JOIN visit AS v ON v.instrument = known.instrument AND v.name = %(text)s
    UNION ALL
    (SELECT 4, 'exposure', instrument, id, obs_id, day_obs FROM exposure WHERE obs_id = %(text)s LIMIT %(limit)s)
    UNION ALL
    (
        SELECT 5, 'group', e.instrument, e.id, e.group_key, e.day_obs
        FROM known_instrument AS known JOIN exposure AS e ON e.instrument = known.instrument AND e.group_key = %(text)s
        WHERE e.id IS DISTINCT FROM %(number)s::bigint
        LIMIT %(limit)s
    )
    UNION ALL
    (
        -- In the order of the index: by another one the planner would look through all nights for a name that is rare.
        SELECT 6, 'visit', instrument, id, name || ' ' || target_name, day_obs
        FROM visit WHERE lower(target_name) LIKE %(prefix)s
        ORDER BY lower(target_name) USING ~<~, day_obs DESC LIMIT %(limit)s
    )
) AS found
ORDER BY rank, day_obs DESC, found.instrument, id DESC
LIMIT %(limit)s;

-- name: first_dead_letters
-- Some of each reason, oldest first.
WITH RECURSIVE why AS (
    SELECT min(reason) AS reason FROM dead_letter WHERE status = 'open'
    UNION ALL
    SELECT (SELECT min(reason) FROM dead_letter WHERE status = 'open' AND dead_letter.reason > why.reason)
    FROM why WHERE why.reason IS NOT NULL
)
SELECT letter.* FROM why CROSS JOIN LATERAL (
    SELECT id, reason, detail, instrument, exposure, group_key, topic, partition, "offset", recorded_at
    FROM dead_letter WHERE status = 'open' AND dead_letter.reason = why.reason
    ORDER BY id LIMIT %(limit)s
) AS letter;

-- name: dead_letters
SELECT id, reason, detail, instrument, exposure, group_key, topic, partition, "offset", recorded_at
FROM dead_letter
WHERE status = 'open' AND id > %(after)s AND (%(reason)s::text IS NULL OR reason = %(reason)s)
ORDER BY id
LIMIT %(limit)s;

-- name: findings
SELECT rule, severity, subject, subjects, found, detail
FROM audit_finding
WHERE instrument = %(instrument)s AND day_obs = %(day_obs)s
ORDER BY number
LIMIT %(limit)s;
