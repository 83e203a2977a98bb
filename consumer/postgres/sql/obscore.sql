-- The ObsCore table beside the writer: what pgSphere and another schema get, what is missing, what is exported.

-- name: spherical_column
-- With pgSphere in the database the table gets an indexed column of its type, which follows s_region. A polygon that
-- pgSphere refuses must not stop the writer: its value is null.
DO $$
DECLARE
    own text := split_part(current_setting('search_path'), ',', 1);
    sphere text := (
        SELECT space.nspname
        FROM pg_extension AS added JOIN pg_namespace AS space ON space.oid = added.extnamespace
        WHERE added.extname = 'pg_sphere'
    );
BEGIN
    IF sphere IS NULL OR EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = to_regclass('visit_obscore') AND attname = 's_region_spoly'
    ) THEN
        RETURN;
    END IF;
    EXECUTE format(
        $function$
        CREATE OR REPLACE FUNCTION %1$I.spoly_of_s_region(s_region text) RETURNS %2$I.spoly
            LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = %2$I, pg_catalog
        AS $body$
        DECLARE
            numbers text[] := string_to_array(substr(s_region, 14), ' ');
        BEGIN
            RETURN (
                SELECT ('{' || string_agg(format('(%%sd,%%sd)', numbers[n], numbers[n + 1]), ',' ORDER BY n) || '}')::spoly
                FROM generate_series(1, array_length(numbers, 1), 2) AS n
            );
        EXCEPTION WHEN OTHERS THEN
            RETURN NULL;
        END
        $body$
        $function$,
        own, sphere
    );
    EXECUTE format(
        'ALTER TABLE %1$I.visit_obscore ADD COLUMN s_region_spoly %2$I.spoly
            GENERATED ALWAYS AS (%1$I.spoly_of_s_region(s_region)) STORED',
        own, sphere
    );
    CREATE INDEX visit_obscore_by_place ON visit_obscore USING gist (s_region_spoly);
    CREATE OR REPLACE VIEW visit_obscore_public AS
    SELECT {obscore_all}, s_region_spoly
    FROM visit_obscore
    WHERE obs_release_date IS NULL OR obs_release_date <= now() AT TIME ZONE 'UTC';
END $$;

-- name: public_schema
SELECT set_config('visit_consumer.obscore_schema', %(schema)s, true);

-- name: public_view
-- The name that clients of the Virtual Observatory ask for, in the schema that `public_schema` was given.
DO $$
DECLARE
    own text := split_part(current_setting('search_path'), ',', 1);
    other text := current_setting('visit_consumer.obscore_schema');
BEGIN
    IF to_regnamespace(other) IS NULL THEN
        EXECUTE format('CREATE SCHEMA %I', other);
    END IF;
    EXECUTE format('CREATE OR REPLACE VIEW %I.obscore AS SELECT * FROM %I.visit_obscore_public', other, own);
    IF to_regrole('visit_reader') IS NOT NULL THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO visit_reader', other);
        EXECUTE format('GRANT SELECT ON %I.obscore TO visit_reader', other);
    END IF;
END $$;

-- name: unfilled
-- Visits whose row is missing or of another revision, after a key, in the order of their keys; locked against the writer.
SELECT visit.instrument, visit.id, visit.name, visit.revision, visit.region, visit.day_obs, visit.seq_num,
    visit.physical_filter, visit.exposure_time, visit.target_name, visit.observation_reason, visit.science_program,
    visit.azimuth, visit.zenith_angle, visit.timespan_begin, visit.timespan_end
FROM visit
LEFT JOIN visit_obscore AS stored ON stored.instrument_name = visit.instrument AND stored.visit = visit.id
WHERE (visit.instrument, visit.id) > (%(instrument)s, %(visit)s)
    AND (%(rewrite)s OR stored.revision IS DISTINCT FROM visit.revision)
ORDER BY visit.instrument, visit.id
LIMIT %(limit)s
FOR UPDATE OF visit;

-- name: remove_orphans
-- Rows whose visit was removed by a release that does not know the table.
DELETE FROM visit_obscore AS stored
WHERE NOT EXISTS (SELECT FROM visit WHERE visit.instrument = stored.instrument_name AND visit.id = stored.visit);

-- name: count_unfilled
-- Of a selection: how many visits have no row, or one of another revision.
SELECT count(*)
FROM visit
LEFT JOIN visit_obscore AS stored ON stored.instrument_name = visit.instrument AND stored.visit = visit.id
WHERE (%(instrument)s::text IS NULL OR visit.instrument = %(instrument)s)
    AND (%(day_obs)s::integer IS NULL OR visit.day_obs = %(day_obs)s)
    AND (%(since_day)s::integer IS NULL OR visit.day_obs >= %(since_day)s)
    AND stored.revision IS DISTINCT FROM visit.revision;

-- name: export
-- By night, so that partitions are written one after the other.
SELECT {obscore_all}
FROM visit_obscore
WHERE (%(instrument)s::text IS NULL OR instrument_name = %(instrument)s)
    AND (%(day_obs)s::integer IS NULL OR day_obs = %(day_obs)s)
    AND (%(since_day)s::integer IS NULL OR day_obs >= %(since_day)s)
    AND (%(since_mjd)s::double precision IS NULL OR t_min >= %(since_mjd)s)
ORDER BY day_obs, instrument_name, visit;

-- name: export_public
-- The same of the view, for a role that may read nothing else.
SELECT {obscore_all}
FROM visit_obscore_public
WHERE (%(instrument)s::text IS NULL OR instrument_name = %(instrument)s)
    AND (%(day_obs)s::integer IS NULL OR day_obs = %(day_obs)s)
    AND (%(since_day)s::integer IS NULL OR day_obs >= %(since_day)s)
    AND (%(since_mjd)s::double precision IS NULL OR t_min >= %(since_mjd)s)
ORDER BY day_obs, instrument_name, visit;

-- name: export_detectors
SELECT {obscore_all}, detector.detector, detector.region
FROM visit_obscore
JOIN (SELECT instrument, visit AS of_visit, detector, region FROM visit_detector_region) AS detector
    ON detector.instrument = instrument_name AND detector.of_visit = visit
WHERE (%(instrument)s::text IS NULL OR instrument_name = %(instrument)s)
    AND (%(day_obs)s::integer IS NULL OR day_obs = %(day_obs)s)
    AND (%(since_day)s::integer IS NULL OR day_obs >= %(since_day)s)
    AND (%(since_mjd)s::double precision IS NULL OR t_min >= %(since_mjd)s)
    AND (NOT %(public)s OR obs_release_date IS NULL OR obs_release_date <= now() AT TIME ZONE 'UTC')
ORDER BY day_obs, instrument_name, visit, detector.detector;

-- name: rows_of_visits
-- The rows of visits, in the order of time.
SELECT {obscore_all}
FROM visit_obscore
WHERE (instrument_name, visit) IN (SELECT * FROM unnest(%(instruments)s::text[], %(visits)s::bigint[]))
ORDER BY t_min, instrument_name, visit;
