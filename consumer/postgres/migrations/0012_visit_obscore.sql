-- works-with: 1
-- A row of IVOA ObsCore 1.1 for each visit, written with it. A release that does not know the table leaves it as it is:
-- `visit-consumer obscore fill` mends it. The view obscore and its functions stay for that release, and go in the next.
--
-- A footprint of 70 vertices has 2.7 kB: it stays in its row, since compressing it would double the insert's time.

CREATE TABLE visit_obscore (
    dataproduct_type text DEFAULT 'image',
    calib_level integer NOT NULL DEFAULT 1,
    obs_collection text NOT NULL,
    obs_id text NOT NULL,
    obs_publisher_did text NOT NULL,
    access_url text,
    access_format text,
    access_estsize bigint,
    target_name text,
    s_ra double precision NOT NULL,
    s_dec double precision NOT NULL,
    s_fov double precision NOT NULL,
    s_region text NOT NULL,
    s_xel1 bigint,
    s_xel2 bigint,
    s_resolution double precision,
    t_min double precision,
    t_max double precision,
    t_exptime double precision,
    t_resolution double precision,
    t_xel bigint,
    em_min double precision,
    em_max double precision,
    em_res_power double precision,
    em_xel bigint,
    o_ucd text DEFAULT 'phot.count',
    pol_states text,
    pol_xel bigint,
    facility_name text,
    instrument_name text NOT NULL,
    obs_title text NOT NULL,
    obs_release_date timestamp,
    s_pixel_scale double precision,
    proposal_id text,
    em_filter_name text,
    em_band text,
    day_obs integer NOT NULL,
    visit bigint NOT NULL,
    revision integer NOT NULL,
    PRIMARY KEY (instrument_name, visit)
) WITH (toast_tuple_target = 8160);
COMMENT ON COLUMN visit_obscore.dataproduct_type IS 'Kind of data';
COMMENT ON COLUMN visit_obscore.calib_level IS '1: instrumental data';
COMMENT ON COLUMN visit_obscore.obs_collection IS 'Name of the collection';
COMMENT ON COLUMN visit_obscore.obs_id IS 'INSTRUMENT/VISIT';
COMMENT ON COLUMN visit_obscore.obs_publisher_did IS 'Identifier by IVOA rules';
COMMENT ON COLUMN visit_obscore.access_url IS 'Where the data are';
COMMENT ON COLUMN visit_obscore.access_format IS 'Media type of access_url';
COMMENT ON COLUMN visit_obscore.access_estsize IS 'Size of the data [kbyte]';
COMMENT ON COLUMN visit_obscore.target_name IS 'Target, as the observatory names it';
COMMENT ON COLUMN visit_obscore.s_ra IS 'Centre of the bounding circle, ICRS [deg]';
COMMENT ON COLUMN visit_obscore.s_dec IS 'Centre of the bounding circle, ICRS [deg]';
COMMENT ON COLUMN visit_obscore.s_fov IS 'Diameter of the bounding circle [deg]';
COMMENT ON COLUMN visit_obscore.s_region IS 'Hull of all detectors, ICRS: STC-S polygon, counter-clockwise seen from the origin';
COMMENT ON COLUMN visit_obscore.s_xel1 IS 'Pixels: not one image';
COMMENT ON COLUMN visit_obscore.s_xel2 IS 'Pixels: not one image';
COMMENT ON COLUMN visit_obscore.s_resolution IS 'Typical width of a star''s image in this filter [arcsec]';
COMMENT ON COLUMN visit_obscore.t_min IS 'Begin, UTC, MJD [d]';
COMMENT ON COLUMN visit_obscore.t_max IS 'End, UTC, MJD [d]';
COMMENT ON COLUMN visit_obscore.t_exptime IS 'Sum of exposure times [s]';
COMMENT ON COLUMN visit_obscore.t_resolution IS 'The exposure time [s]';
COMMENT ON COLUMN visit_obscore.t_xel IS 'Samples in time';
COMMENT ON COLUMN visit_obscore.em_min IS 'Shortest wavelength [m]';
COMMENT ON COLUMN visit_obscore.em_max IS 'Longest wavelength [m]';
COMMENT ON COLUMN visit_obscore.em_res_power IS 'Resolving power: none, an image';
COMMENT ON COLUMN visit_obscore.em_xel IS 'Samples in wavelength';
COMMENT ON COLUMN visit_obscore.o_ucd IS 'What pixels hold';
COMMENT ON COLUMN visit_obscore.pol_states IS 'None';
COMMENT ON COLUMN visit_obscore.pol_xel IS 'Polarisation states';
COMMENT ON COLUMN visit_obscore.facility_name IS 'Telescope';
COMMENT ON COLUMN visit_obscore.instrument_name IS 'Camera';
COMMENT ON COLUMN visit_obscore.obs_title IS 'Name of the visit';
COMMENT ON COLUMN visit_obscore.obs_release_date IS 'When the row becomes public, UTC; null: from the start';
COMMENT ON COLUMN visit_obscore.s_pixel_scale IS 'Size of a pixel on the axis [arcsec]';
COMMENT ON COLUMN visit_obscore.proposal_id IS 'Programme of the observatory';
COMMENT ON COLUMN visit_obscore.em_filter_name IS 'Physical filter';
COMMENT ON COLUMN visit_obscore.em_band IS 'Band of the filter';
COMMENT ON COLUMN visit_obscore.day_obs IS 'Observing day, YYYYMMDD';
COMMENT ON COLUMN visit_obscore.visit IS 'Id of the visit in its instrument';
COMMENT ON COLUMN visit_obscore.revision IS 'Counts the changes of the visit''s row';

-- A night at a time; a time at a time.
CREATE INDEX visit_obscore_by_day ON visit_obscore (day_obs, instrument_name);
CREATE INDEX visit_obscore_by_time ON visit_obscore (t_min);

CREATE VIEW visit_obscore_public AS
SELECT dataproduct_type, calib_level, obs_collection, obs_id, obs_publisher_did, access_url, access_format, access_estsize, target_name, s_ra, s_dec, s_fov, s_region, s_xel1, s_xel2, s_resolution, t_min, t_max, t_exptime, t_resolution, t_xel, em_min, em_max, em_res_power, em_xel, o_ucd, pol_states, pol_xel, facility_name, instrument_name, obs_title, obs_release_date, s_pixel_scale, proposal_id, em_filter_name, em_band, day_obs, visit, revision
FROM visit_obscore
WHERE obs_release_date IS NULL OR obs_release_date <= now() AT TIME ZONE 'UTC';
COMMENT ON TABLE visit_obscore IS 'IVOA ObsCore 1.1: one row for each visit, as its last revision is.';
COMMENT ON VIEW visit_obscore_public IS 'Rows of visit_obscore whose embargo is over: what a role of the public may read.';
COMMENT ON VIEW obscore IS 'Deprecated: read visit_obscore; the next release drops it.';
