-- works-with: 1
-- The first schema. Tables exposure, visit, visit_* have the keys and columns of the Butler's dimension universe 8,
-- and what this service adds. Times: timespan_* are TAI nanoseconds; *_ms are UTC milliseconds of stream time;
-- timestamptz columns are wall clock. Regions are lsst.sphgeom ConvexPolygon encodings, ICRS.
--
-- There are no foreign keys between the visit tables: one transaction writes all rows of a visit, under a lock on
-- its group, and 205 checks a visit would cost more than the rows.

CREATE TABLE exposure (
    instrument text NOT NULL,
    id bigint NOT NULL,
    obs_id text NOT NULL,
    day_obs integer NOT NULL,
    "group" text NOT NULL,
    physical_filter text,
    exposure_time double precision,
    dark_time double precision,
    observation_type text,
    observation_reason text,
    seq_num bigint,
    seq_start bigint,
    seq_end bigint,
    target_name text,
    science_program text,
    tracking_ra double precision,
    tracking_dec double precision,
    sky_angle double precision,
    azimuth double precision,
    zenith_angle double precision,
    has_simulated boolean,
    can_see_sky boolean,
    timespan_begin bigint,
    timespan_end bigint,
    group_size integer,
    record_version bigint NOT NULL,
    -- What the service adds: the key of the group under the instrument's rule, and the detectors that have arrived.
    group_key text NOT NULL,
    detectors int4multirange NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instrument, id)
);
-- Members of a group, when it closes.
CREATE INDEX exposure_by_group ON exposure (instrument, group_key);
-- A night at a time: redefine, dashboards.
CREATE INDEX exposure_by_day ON exposure (day_obs, instrument);

CREATE TABLE visit (
    instrument text NOT NULL,
    id bigint NOT NULL,
    day_obs integer NOT NULL,
    physical_filter text,
    name text NOT NULL,
    seq_num bigint,
    exposure_time double precision,
    target_name text,
    observation_reason text,
    science_program text,
    azimuth double precision,
    zenith_angle double precision,
    region bytea NOT NULL,
    timespan_begin bigint,
    timespan_end bigint,
    -- What the service adds.
    group_key text NOT NULL,
    complete boolean,
    inputs_hash bytea NOT NULL,
    rule text NOT NULL,
    algorithm text NOT NULL,
    camera_version text,
    padding integer NOT NULL,
    -- History: may differ between two readings of one log.
    close_reason text NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    software_version text NOT NULL,
    defined_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instrument, id),
    CONSTRAINT visit_name_is_unique UNIQUE (instrument, name)
);
-- Visits that a group had when it is defined again.
CREATE INDEX visit_by_group ON visit (instrument, group_key);
CREATE INDEX visit_by_day ON visit (day_obs, instrument);

CREATE TABLE visit_definition (
    instrument text NOT NULL,
    exposure bigint NOT NULL,
    visit bigint NOT NULL,
    PRIMARY KEY (instrument, visit, exposure)
);
-- "Which visits have this exposure?": explain.
CREATE INDEX visit_definition_by_exposure ON visit_definition (instrument, exposure);

CREATE TABLE visit_system (
    instrument text NOT NULL,
    id integer NOT NULL,
    name text NOT NULL,
    PRIMARY KEY (instrument, id)
);

CREATE TABLE visit_system_membership (
    instrument text NOT NULL,
    visit_system integer NOT NULL,
    visit bigint NOT NULL,
    PRIMARY KEY (instrument, visit, visit_system)
);

-- The key's order keeps the rows of one visit together, and new ones at the right edge of the index.
CREATE TABLE visit_detector_region (
    instrument text NOT NULL,
    visit bigint NOT NULL,
    detector integer NOT NULL,
    region bytea NOT NULL,
    PRIMARY KEY (instrument, visit, detector)
);

-- Which visits may cover a point: one indexed look-up by the point's level-7 HTM trixel, exact by region afterwards.
CREATE TABLE visit_htm7 (
    htm7 integer NOT NULL,
    instrument text NOT NULL,
    visit bigint NOT NULL,
    PRIMARY KEY (htm7, instrument, visit)
);

-- What single raws' own WCS say, for region algorithms that read headers: a polygon, or a pointing in degrees.
CREATE TABLE raw_region (
    instrument text NOT NULL,
    exposure bigint NOT NULL,
    detector integer NOT NULL,
    region bytea,
    pointing_ra double precision,
    pointing_dec double precision,
    pointing_sky_angle double precision,
    -- That of the record which came with the raw: a correction replaces what an earlier announcement said.
    record_version bigint NOT NULL,
    PRIMARY KEY (instrument, exposure, detector)
);

-- The fence. One row for each partition of each log that this consumer group reads. A recreated topic (another
-- topic_id) or another cluster is another log.
CREATE TABLE consumer_offset (
    id bigint GENERATED ALWAYS AS IDENTITY,
    consumer_group text NOT NULL,
    cluster_id text NOT NULL,
    topic text NOT NULL,
    topic_id text NOT NULL DEFAULT '',
    partition integer NOT NULL,
    -- The offset that is read next; null until the first batch is written.
    next_offset bigint,
    -- Raised by each claim; a writer with a lower one writes nothing.
    epoch bigint NOT NULL DEFAULT 0,
    -- The largest message timestamp read, UTC milliseconds.
    stream_time_ms bigint NOT NULL DEFAULT 0,
    owner text NOT NULL DEFAULT '',
    -- Why the circuit breaker stopped reading here; null while the partition is read.
    breaker text,
    -- An operator's word: bad messages below this offset become dead letters, however many there are.
    accept_until bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, cluster_id, topic, topic_id, partition),
    UNIQUE (id)
);

-- The buffer: groups that wait for exposures. Their members are rows of exposure.
CREATE TABLE open_group (
    instrument text NOT NULL,
    group_key text NOT NULL,
    -- consumer_offset.id of the partition that carried its latest event: the group lives by that partition's clock.
    clock bigint NOT NULL,
    opened_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    -- When an exposure of a later group was read from the same partition.
    superseded_ms bigint,
    -- Largest timespan_begin of its members, TAI nanoseconds.
    latest_begin bigint,
    deadline_ms bigint NOT NULL,
    PRIMARY KEY (instrument, group_key)
);
CREATE INDEX open_group_due ON open_group (clock, deadline_ms);
CREATE INDEX open_group_not_superseded ON open_group (clock, instrument, latest_begin) WHERE superseded_ms IS NULL;

CREATE TABLE dead_letter (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reason text NOT NULL,
    detail text NOT NULL,
    instrument text,
    exposure bigint,
    group_key text,
    -- The message, where the dead letter is one: a group that failed has none.
    cluster_id text,
    topic text,
    topic_id text,
    partition integer,
    "offset" bigint,
    key bytea,
    value bytea,
    message_at timestamptz,
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'replayed', 'discarded', 'resolved')),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    settled_at timestamptz
);
CREATE UNIQUE INDEX dead_letter_of_message ON dead_letter (cluster_id, topic, topic_id, partition, "offset")
    WHERE "offset" IS NOT NULL;
CREATE UNIQUE INDEX dead_letter_of_subject ON dead_letter (instrument, reason, group_key, exposure)
    NULLS NOT DISTINCT WHERE "offset" IS NULL;
-- Groups that become visits after all.
CREATE INDEX dead_letter_of_group ON dead_letter (instrument, group_key) WHERE "offset" IS NULL AND status = 'open';
CREATE INDEX dead_letter_open ON dead_letter (reason, id) WHERE status = 'open';

-- Announcements, written in the visit's own transaction and relayed in the order of id.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instrument text NOT NULL,
    visit bigint NOT NULL,
    revision integer NOT NULL,
    payload bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz
);
CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_at IS NULL;

-- IVOA ObsCore (REC-ObsCore-v1.1) names over the visits.
CREATE FUNCTION sphgeom_double(region bytea, at_byte integer) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    -- An IEEE 754 binary64, little-endian, from a byte on: sign, exponent and mantissa are exact in a double.
    RETURN (
        CASE WHEN get_byte(region, at_byte + 7) >= 128 THEN -1.0 ELSE 1.0 END
        * CASE
            WHEN (get_byte(region, at_byte + 7) & 127) = 0 AND get_byte(region, at_byte + 6) < 16 THEN 0.0
            ELSE (
                1.0::double precision
                + (
                    ((get_byte(region, at_byte + 6) & 15)::bigint << 48)
                    + (get_byte(region, at_byte + 5)::bigint << 40)
                    + (get_byte(region, at_byte + 4)::bigint << 32)
                    + (get_byte(region, at_byte + 3)::bigint << 24)
                    + (get_byte(region, at_byte + 2)::bigint << 16)
                    + (get_byte(region, at_byte + 1)::bigint << 8)
                    + get_byte(region, at_byte)::bigint
                )::double precision / 4503599627370496.0::double precision
            ) * power(
                2.0::double precision,
                ((get_byte(region, at_byte + 7) & 127) * 16 + (get_byte(region, at_byte + 6) >> 4) - 1023)
            )
        END
    )::double precision;

CREATE FUNCTION sphgeom_vertices(region bytea)
    RETURNS TABLE (vertex integer, x double precision, y double precision, z double precision)
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    -- An encoded ConvexPolygon is a type byte 'p' and 24 bytes a vertex.
    BEGIN ATOMIC
        SELECT n, sphgeom_double(region, 1 + 24 * n), sphgeom_double(region, 9 + 24 * n),
            sphgeom_double(region, 17 + 24 * n)
        FROM generate_series(0, (length(region) - 1) / 24 - 1) AS n
        ORDER BY n;
    END;

CREATE FUNCTION s_region(region bytea) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    BEGIN ATOMIC
        SELECT 'POLYGON ICRS ' || string_agg(
            (CASE WHEN y < 0 THEN degrees(atan2(y, x)) + 360 ELSE degrees(atan2(y, x)) END)::text
            || ' ' || degrees(atan2(z, sqrt(x * x + y * y)))::text,
            ' ' ORDER BY vertex
        )
        FROM sphgeom_vertices(region);
    END;

CREATE VIEW obscore AS
SELECT
    'image'::text AS dataproduct_type,
    1 AS calib_level,
    visit.instrument || '/' || visit.id AS obs_id,
    visit.name AS obs_title,
    visit.target_name,
    first.tracking_ra AS s_ra,
    first.tracking_dec AS s_dec,
    s_region(visit.region) AS s_region,
    -- Modified Julian Date, TAI: 40587 is 1970-01-01.
    40587 + visit.timespan_begin / 86400e9::double precision AS t_min,
    40587 + visit.timespan_end / 86400e9::double precision AS t_max,
    visit.exposure_time AS t_exptime,
    visit.instrument AS instrument_name,
    visit.physical_filter AS em_filter_name,
    visit.science_program AS proposal_id,
    visit.day_obs,
    visit.revision
FROM visit
CROSS JOIN LATERAL (
    SELECT exposure.tracking_ra, exposure.tracking_dec
    FROM visit_definition AS member
    JOIN exposure ON exposure.instrument = member.instrument AND exposure.id = member.exposure
    WHERE member.instrument = visit.instrument AND member.visit = visit.id
    ORDER BY exposure.timespan_begin NULLS LAST, exposure.id
    LIMIT 1
) AS first;
