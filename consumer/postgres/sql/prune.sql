-- Removal of old nights, as the schema's owner: some exposures with their whole groups in each transaction. The order of
-- locks is the service's: exposures, groups, visits.

-- name: groups
-- Some groups of one night that are whole before the day, and are not open.
SELECT DISTINCT group_key
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
    AND group_key > %(after)s
ORDER BY group_key
LIMIT %(limit)s;

-- name: lock_exposures
SELECT id
FROM exposure
WHERE instrument = %(instrument)s AND group_key = ANY(%(group_keys)s::text[])
ORDER BY id
FOR UPDATE;

-- name: delete_raw_regions
DELETE FROM raw_region WHERE instrument = %(instrument)s AND exposure = ANY(%(exposures)s::bigint[]);

-- name: delete_exposures
DELETE FROM exposure WHERE instrument = %(instrument)s AND id = ANY(%(exposures)s::bigint[]);

-- name: delete_dead_letters
-- Those that are closed; an open one stays until an operator has decided.
DELETE FROM dead_letter
WHERE instrument = %(instrument)s AND exposure = ANY(%(exposures)s::bigint[]) AND status <> 'open';
