-- Which visits may cover a place on the sky.

-- name: visits_near
-- One look-up in the index for each trixel; exact by region afterwards. A trixel's rows come together in the key.
SELECT
    visit.instrument, visit.id, visit.name, visit.day_obs, visit.physical_filter, visit.exposure_time,
    visit.target_name, visit.timespan_begin, visit.region
FROM (
    SELECT DISTINCT instrument, visit
    FROM visit_htm7
    WHERE htm7 = ANY(%(trixels)s::integer[])
) AS near
JOIN visit ON visit.instrument = near.instrument AND visit.id = near.visit
WHERE (%(instrument)s::text IS NULL OR visit.instrument = %(instrument)s)
    AND (%(day_obs)s::integer IS NULL OR visit.day_obs = %(day_obs)s)
ORDER BY visit.instrument, visit.id;

-- name: detector_regions
SELECT instrument, visit, detector, region
FROM visit_detector_region
WHERE (instrument, visit) IN (SELECT * FROM unnest(%(instruments)s::text[], %(visits)s::bigint[]))
ORDER BY instrument, visit, detector;
