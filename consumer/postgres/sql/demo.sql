-- What the demo looks at: it reads the tables as any user would.

-- name: offsets_read
SELECT coalesce(sum(next_offset), 0)::bigint FROM consumer_offset WHERE cluster_id = %(cluster_id)s;

-- name: visit_row_versions
-- xmin is the transaction that wrote the row last: equal before and after means that nobody touched it.
SELECT instrument, id, xmin::text FROM visit;

-- name: waiting_groups
SELECT count(*) FROM open_group;

-- name: tonight
SELECT
    visit.instrument,
    visit.id,
    visit.name,
    string_agg(DISTINCT membership.visit_system::text, ', ' ORDER BY membership.visit_system::text) AS visit_systems,
    (SELECT count(*) FROM visit_definition AS d WHERE d.instrument = visit.instrument AND d.visit = visit.id),
    visit.physical_filter,
    obscore.s_ra,
    obscore.s_dec,
    (SELECT count(*) FROM visit_detector_region AS r WHERE r.instrument = visit.instrument AND r.visit = visit.id),
    visit.revision
FROM visit
JOIN obscore ON obscore.instrument_name = visit.instrument AND obscore.obs_id = visit.instrument || '/' || visit.id
JOIN visit_system_membership AS membership
    ON membership.instrument = visit.instrument AND membership.visit = visit.id
GROUP BY visit.instrument, visit.id, obscore.s_ra, obscore.s_dec
ORDER BY visit.instrument, visit.id;

-- name: visit_region
SELECT region FROM visit WHERE instrument = %(instrument)s AND id = %(visit)s;

-- name: detector_regions
SELECT detector, region
FROM visit_detector_region
WHERE instrument = %(instrument)s AND visit = %(visit)s
ORDER BY detector;

-- name: memberships
SELECT visit, array_agg(exposure ORDER BY exposure)
FROM visit_definition
WHERE instrument = %(instrument)s AND exposure = ANY(
    SELECT unnest(%(exposures)s::bigint[])
)
GROUP BY visit
ORDER BY visit;

-- name: exposures_without_visit
SELECT count(*)
FROM exposure
WHERE NOT EXISTS (
    SELECT FROM visit_definition AS d WHERE d.instrument = exposure.instrument AND d.exposure = exposure.id
);

-- name: dead_letters
SELECT count(*) FROM dead_letter;
