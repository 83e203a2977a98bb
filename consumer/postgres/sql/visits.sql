-- Reading visits whole, and rewriting them: what operators' commands do beside the service.

-- name: exposures
SELECT {exposure}
FROM exposure
WHERE (instrument, id) IN (SELECT * FROM unnest(%(instruments)s::text[], %(ids)s::bigint[]));

-- name: visits
SELECT
    id, name, complete, group_key, inputs_hash, rule, algorithm, camera_version, padding, close_reason, region,
    day_obs, seq_num, physical_filter, exposure_time, target_name, observation_reason, science_program, azimuth,
    zenith_angle, timespan_begin, timespan_end
FROM visit
WHERE instrument = %(instrument)s AND id = ANY(%(visits)s::bigint[]);

-- name: members
SELECT member.visit, {exposure}
FROM visit_definition AS member
JOIN exposure ON exposure.instrument = member.instrument AND exposure.id = member.exposure
WHERE member.instrument = %(instrument)s AND member.visit = ANY(%(visits)s::bigint[]);

-- name: memberships
SELECT visit, visit_system
FROM visit_system_membership
WHERE instrument = %(instrument)s AND visit = ANY(%(visits)s::bigint[])
ORDER BY visit, visit_system;

-- name: detector_regions
SELECT visit, detector, region
FROM visit_detector_region
WHERE instrument = %(instrument)s AND visit = ANY(%(visits)s::bigint[])
ORDER BY visit, detector;

-- name: release_visit
-- A visit that is rewritten on purpose: upsert_visits leaves rows of another group, or with an equal hash, alone. Its
-- name is given up too, since of two visits that are rewritten together one may take the other's.
UPDATE visit
SET group_key = %(group_key)s, inputs_hash = ''::bytea, name = id::text || ' is being rewritten'
WHERE instrument = %(instrument)s AND id = %(id)s;

-- name: regroup_exposures
-- The rule changed, and so the keys of the groups; the exposures are locked.
UPDATE exposure AS stored
SET group_key = given.group_key, updated_at = now()
FROM unnest(%(instruments)s::text[], %(ids)s::bigint[], %(group_keys)s::text[]) AS given (instrument, id, group_key)
WHERE stored.instrument = given.instrument AND stored.id = given.id AND stored.group_key <> given.group_key;

-- name: exposures_of_days
SELECT {exposure}
FROM exposure
WHERE instrument = %(instrument)s AND day_obs = ANY(%(days)s::integer[]);

-- name: exposures_of_visit
SELECT member.exposure, e.day_obs
FROM visit_definition AS member
JOIN exposure AS e ON e.instrument = member.instrument AND e.id = member.exposure
WHERE member.instrument = %(instrument)s AND member.visit = %(visit)s;
