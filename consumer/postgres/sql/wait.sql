-- What `wait` asks again and again: each is answered by an index.

-- name: visit
SELECT instrument, id, revision, complete
FROM visit
WHERE instrument IN (SELECT coalesce(%(instrument)s, instrument) FROM known_instrument) AND id = %(id)s;

-- name: exposure
SELECT visit.instrument, visit.id, visit.revision, visit.complete
FROM visit_definition AS member
JOIN visit ON visit.instrument = member.instrument AND visit.id = member.visit
WHERE member.instrument IN (SELECT coalesce(%(instrument)s, instrument) FROM known_instrument)
    AND member.exposure = %(id)s
ORDER BY visit.instrument, visit.id;

-- name: night
-- How many visits a night has, and what keeps it from being over: its open groups, and exposures on sky in no visit.
SELECT
    (
        SELECT count(*) FROM visit
        WHERE day_obs = %(id)s AND instrument = coalesce(%(instrument)s::text, instrument)
    ),
    (
        SELECT count(*) FROM open_group AS waiting
        WHERE instrument = coalesce(%(instrument)s::text, instrument) AND EXISTS (
            SELECT FROM exposure
            WHERE exposure.instrument = waiting.instrument AND exposure.group_key = waiting.group_key
                AND exposure.day_obs = %(id)s
        )
    ),
    (
        SELECT count(*) FROM exposure
        WHERE day_obs = %(id)s AND instrument = coalesce(%(instrument)s::text, instrument)
            AND tracking_ra IS NOT NULL AND tracking_dec IS NOT NULL AND sky_angle IS NOT NULL
            AND can_see_sky IS NOT FALSE
            AND NOT EXISTS (
                SELECT FROM visit_definition AS member
                WHERE member.instrument = exposure.instrument AND member.exposure = exposure.id
            )
    ),
    (
        SELECT count(*) FROM visit
        WHERE day_obs = %(id)s AND instrument = coalesce(%(instrument)s::text, instrument) AND complete IS FALSE
    );
