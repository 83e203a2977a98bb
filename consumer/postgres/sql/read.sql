-- Questions of `consumer.read`: the reader role may ask them all.

-- name: night
SELECT
    visit.instrument,
    visit.id,
    visit.name,
    (
        SELECT array_agg(m.visit_system ORDER BY m.visit_system)
        FROM visit_system_membership AS m
        WHERE m.instrument = visit.instrument AND m.visit = visit.id
    ),
    (SELECT count(*) FROM visit_definition AS d WHERE d.instrument = visit.instrument AND d.visit = visit.id),
    visit.physical_filter,
    visit.region,
    (SELECT count(*) FROM visit_detector_region AS r WHERE r.instrument = visit.instrument AND r.visit = visit.id),
    visit.revision
FROM visit
WHERE (%(instrument)s::text IS NULL OR visit.instrument = %(instrument)s)
    AND (%(day_obs)s::integer IS NULL OR visit.day_obs = %(day_obs)s)
ORDER BY visit.instrument, visit.id;

-- name: exposures_without_visit
SELECT exposure.instrument, exposure.id
FROM exposure
WHERE (%(instrument)s::text IS NULL OR exposure.instrument = %(instrument)s)
    AND (%(day_obs)s::integer IS NULL OR exposure.day_obs = %(day_obs)s)
    AND NOT EXISTS (
        SELECT FROM visit_definition AS d WHERE d.instrument = exposure.instrument AND d.exposure = exposure.id
    )
ORDER BY exposure.instrument, exposure.id;

-- name: visits_of_exposures
SELECT visit, array_agg(exposure ORDER BY exposure)
FROM visit_definition
WHERE instrument = %(instrument)s AND exposure = ANY(
    SELECT unnest(%(exposures)s::bigint[])
)
GROUP BY visit
ORDER BY visit;

-- name: status
SELECT
    (SELECT max(version) FROM schema_version),
    (SELECT count(*) FROM open_group),
    (SELECT count(*) FROM outbox WHERE sent_at IS NULL);

-- name: dead_letters
SELECT reason, status, count(*) FROM dead_letter GROUP BY reason, status ORDER BY reason, status;

-- name: detectors_of_exposures
-- By day where it is known: there is an index for it, and none by obs_id.
SELECT obs_id, instrument, detectors::text
FROM exposure
WHERE obs_id = ANY(%(obs_ids)s::text[])
    AND (%(days)s::integer[] IS NULL OR day_obs = ANY(%(days)s::integer[]));

-- name: nights
-- What is stored before a day, by night: for the plan.
SELECT
    night.day_obs, night.instrument, night.exposures,
    (
        SELECT count(*) FROM visit
        WHERE visit.day_obs = night.day_obs AND visit.instrument = night.instrument
    )
FROM (
    SELECT day_obs, instrument, count(*) AS exposures
    FROM exposure
    WHERE day_obs < %(before)s AND (%(instrument)s::text IS NULL OR instrument = %(instrument)s)
    GROUP BY day_obs, instrument
) AS night
ORDER BY night.day_obs, night.instrument;
