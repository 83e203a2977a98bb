-- Removal of old nights, as the schema's owner: some exposures with their whole groups in each transaction. The order of
-- locks is the service's: exposures, groups, visits.

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

-- name: groups
-- Some groups of one night that are whole before the day, and are not open.
SELECT group_key
FROM exposure
WHERE day_obs = %(day_obs)s AND instrument = %(instrument)s
    AND NOT EXISTS (
        SELECT FROM exposure AS later
        WHERE later.instrument = exposure.instrument AND later.group_key = exposure.group_key
            AND later.day_obs >= %(before)s
    )
    AND NOT EXISTS (
        SELECT FROM open_group
        WHERE open_group.instrument = exposure.instrument AND open_group.group_key = exposure.group_key
    )
GROUP BY group_key
ORDER BY group_key
LIMIT %(limit)s;

-- name: lock_exposures
-- A row that an event is changing now is not waited for: its group stays until the next transaction.
SELECT id, group_key
FROM exposure
WHERE instrument = %(instrument)s AND group_key = ANY(%(group_keys)s::text[])
ORDER BY id
FOR UPDATE;

-- name: lock_visits
SELECT id, region
FROM visit
WHERE instrument = %(instrument)s AND group_key = ANY(%(group_keys)s::text[])
ORDER BY id
FOR UPDATE;

-- name: delete_detector_regions
DELETE FROM visit_detector_region WHERE instrument = %(instrument)s AND visit = ANY(%(visits)s::bigint[]);

-- name: delete_definitions
DELETE FROM visit_definition WHERE instrument = %(instrument)s AND visit = ANY(%(visits)s::bigint[]);

-- name: delete_memberships
DELETE FROM visit_system_membership WHERE instrument = %(instrument)s AND visit = ANY(%(visits)s::bigint[]);

-- name: delete_htm7
DELETE FROM visit_htm7
WHERE (htm7, instrument, visit)
    IN (SELECT * FROM unnest(%(trixels)s::integer[], %(instruments)s::text[], %(visits)s::bigint[]));

-- name: retire_visits
-- Should an event define one of them again, its revisions go on where they ended.
INSERT INTO retired_visit (instrument, id, revision)
SELECT instrument, id, revision FROM visit
WHERE instrument = %(instrument)s AND id = ANY(%(visits)s::bigint[])
ON CONFLICT (instrument, id) DO UPDATE SET revision = greatest(retired_visit.revision, excluded.revision);

-- name: delete_visits
DELETE FROM visit WHERE instrument = %(instrument)s AND id = ANY(%(visits)s::bigint[]);

-- name: delete_raw_regions
DELETE FROM raw_region WHERE instrument = %(instrument)s AND exposure = ANY(%(exposures)s::bigint[]);

-- name: delete_exposures
DELETE FROM exposure WHERE instrument = %(instrument)s AND id = ANY(%(exposures)s::bigint[]);

-- name: delete_dead_letters
-- Those that are closed; an open one stays until an operator has decided.
DELETE FROM dead_letter
WHERE instrument = %(instrument)s AND exposure = ANY(%(exposures)s::bigint[]) AND status <> 'open';
