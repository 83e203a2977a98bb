-- Queries of the board "night", read by the reader role. Variables of the board: the schema, one night (day_obs), and
-- instruments. They are written so that an empty choice gives no rows, not an error.

-- name: nights
-- Choices of the variable "night", the latest first.
SELECT day_obs FROM ${schema:raw}.exposure GROUP BY day_obs ORDER BY day_obs DESC LIMIT 400;

-- name: instruments
-- Choices of the variable "instrument": those that observed in the night.
SELECT DISTINCT instrument FROM ${schema:raw}.exposure
WHERE day_obs = nullif('${night:raw}', '')::integer ORDER BY instrument;

-- name: visits
SELECT count(*) AS visits FROM ${schema:raw}.visit
WHERE day_obs = nullif('${night:raw}', '')::integer AND instrument = ANY (string_to_array('${instrument:csv}', ','));

-- name: exposures
SELECT count(*) AS exposures FROM ${schema:raw}.exposure
WHERE day_obs = nullif('${night:raw}', '')::integer AND instrument = ANY (string_to_array('${instrument:csv}', ','));

-- name: raws
-- Detectors that have arrived, over all exposures.
SELECT coalesce(sum(upper(arrived) - lower(arrived)), 0) AS raws
FROM ${schema:raw}.exposure, LATERAL unnest(detectors) AS arrived
WHERE day_obs = nullif('${night:raw}', '')::integer AND instrument = ANY (string_to_array('${instrument:csv}', ','));

-- name: missing_raws
-- Raws that are expected and have not arrived; exposures without expected_detectors do not count.
SELECT count(*) AS missing_raws FROM ${schema:raw}.missing_raw
WHERE day_obs = nullif('${night:raw}', '')::integer AND instrument = ANY (string_to_array('${instrument:csv}', ','));

-- name: exposures_with_missing_raws
-- Which detectors are missing of which exposure, the latest first.
SELECT exposure.instrument, exposure.id::text AS exposure, exposure.obs_id, exposure.target_name AS target,
    (SELECT sum(upper(part) - lower(part)) FROM unnest(exposure.expected_detectors) AS part) AS expected, lacks.missing,
    lacks.detectors AS "missing detectors", exposure.updated_at AS "last change"
FROM ${schema:raw}.exposure
    CROSS JOIN LATERAL (
        SELECT sum(upper(part) - lower(part)) AS missing, string_agg(
                CASE WHEN upper(part) = lower(part) + 1 THEN lower(part)::text ELSE lower(part) || '-' || upper(part) - 1 END,
                ', ' ORDER BY part
            ) AS detectors
        FROM unnest(exposure.expected_detectors - exposure.detectors) AS part
    ) AS lacks
WHERE lacks.missing > 0 AND exposure.day_obs = nullif('${night:raw}', '')::integer
    AND exposure.instrument = ANY (string_to_array('${instrument:csv}', ','))
ORDER BY exposure.id DESC LIMIT 200;

-- name: incomplete_count
SELECT count(*) AS incomplete FROM ${schema:raw}.visit
WHERE complete IS FALSE AND day_obs = nullif('${night:raw}', '')::integer
    AND instrument = ANY (string_to_array('${instrument:csv}', ','));

-- name: open_group_count
-- Of all nights: a group of an earlier night that is still open is what one wants to see.
SELECT count(*) AS open_groups FROM ${schema:raw}.open_group
WHERE instrument = ANY (string_to_array('${instrument:csv}', ','));

-- name: open_dead_letter_count
-- Of all instruments and nights: what is unreadable names neither.
SELECT count(*) AS open_dead_letters FROM ${schema:raw}.dead_letter WHERE status = 'open';

-- name: visits_by_filter
SELECT coalesce(physical_filter, 'several or none') AS filter, count(*) AS visits
FROM ${schema:raw}.visit
WHERE day_obs = nullif('${night:raw}', '')::integer AND instrument = ANY (string_to_array('${instrument:csv}', ','))
GROUP BY 1 ORDER BY 1;

-- name: visits_by_half_hour
-- UTC of the shutter's opening: TAI is 37 s ahead of UTC since 2017, which half an hour does not notice.
SELECT to_char(
        date_bin('30 minutes', to_timestamp(timespan_begin / 1e9 - 37), '2000-01-01 00:00:00+00') AT TIME ZONE 'UTC',
        'MM-DD HH24:MI'
    ) AS utc,
    count(*) AS visits,
    count(*) FILTER (WHERE complete IS FALSE) AS incomplete
FROM ${schema:raw}.visit
WHERE timespan_begin IS NOT NULL AND day_obs = nullif('${night:raw}', '')::integer
    AND instrument = ANY (string_to_array('${instrument:csv}', ','))
GROUP BY 1 ORDER BY 1;

-- name: close_reasons
SELECT close_reason, count(*) AS visits FROM ${schema:raw}.visit
WHERE day_obs = nullif('${night:raw}', '')::integer AND instrument = ANY (string_to_array('${instrument:csv}', ','))
GROUP BY 1 ORDER BY 2 DESC;

-- name: sky
-- One point a visit, at the pointing of its first exposure: degrees, ICRS. Right ascension grows to the right.
SELECT DISTINCT ON (visit.instrument, visit.id)
    exposure.tracking_ra AS "RA", exposure.tracking_dec AS "Dec",
    coalesce(visit.physical_filter, 'several or none') AS filter
FROM ${schema:raw}.visit
    JOIN ${schema:raw}.visit_definition AS member ON member.instrument = visit.instrument AND member.visit = visit.id
    JOIN ${schema:raw}.exposure ON exposure.instrument = member.instrument AND exposure.id = member.exposure
WHERE visit.day_obs = nullif('${night:raw}', '')::integer
    AND visit.instrument = ANY (string_to_array('${instrument:csv}', ','))
    AND exposure.tracking_ra IS NOT NULL AND exposure.tracking_dec IS NOT NULL
ORDER BY visit.instrument, visit.id, exposure.timespan_begin, exposure.id;

-- name: completeness
-- Detectors that have arrived of each on-sky exposure, against the most that any exposure of the night has.
WITH arrived AS (
    SELECT instrument, id, obs_id, target_name, updated_at,
        (SELECT coalesce(sum(upper(part) - lower(part)), 0) FROM unnest(detectors) AS part) AS detectors
    FROM ${schema:raw}.exposure
    WHERE can_see_sky IS DISTINCT FROM false AND day_obs = nullif('${night:raw}', '')::integer
        AND instrument = ANY (string_to_array('${instrument:csv}', ','))
), camera AS (
    SELECT instrument, max(detectors) AS most FROM arrived GROUP BY instrument
)
SELECT instrument, most AS "detectors of the camera", count(*) AS exposures,
    count(*) FILTER (WHERE detectors = most) AS "with all detectors",
    count(*) FILTER (WHERE detectors < most) AS "with some",
    sum(detectors)::double precision / nullif(sum(most), 0) AS "raws arrived"
FROM arrived JOIN camera USING (instrument)
GROUP BY instrument, most ORDER BY instrument;

-- name: partial_exposures
-- Exposures whose raws have not all arrived, the latest first.
WITH arrived AS (
    SELECT instrument, id, obs_id, target_name, updated_at,
        (SELECT coalesce(sum(upper(part) - lower(part)), 0) FROM unnest(detectors) AS part) AS detectors
    FROM ${schema:raw}.exposure
    WHERE can_see_sky IS DISTINCT FROM false AND day_obs = nullif('${night:raw}', '')::integer
        AND instrument = ANY (string_to_array('${instrument:csv}', ','))
), camera AS (
    SELECT instrument, max(detectors) AS most FROM arrived GROUP BY instrument
)
SELECT instrument, id::text AS exposure, obs_id, target_name AS target, detectors AS arrived,
    most - detectors AS missing, updated_at AS "last raw"
FROM arrived JOIN camera USING (instrument)
WHERE detectors < most ORDER BY id DESC LIMIT 200;

-- name: incomplete_visits
-- Visits of groups that closed without all their exposures.
SELECT instrument, id::text AS visit, name, physical_filter AS filter, close_reason AS "closed by",
    revision, updated_at AS written
FROM ${schema:raw}.visit
WHERE complete IS FALSE AND day_obs = nullif('${night:raw}', '')::integer
    AND instrument = ANY (string_to_array('${instrument:csv}', ','))
ORDER BY id DESC LIMIT 200;

-- name: open_groups
-- Groups that wait, of all nights; times are stream time. Members: exposures that have arrived.
SELECT waiting.instrument, waiting.group_key AS "group", count(exposure.id) AS members,
    max(coalesce(exposure.group_size, exposure.seq_end - exposure.seq_start + 1)) AS expected,
    to_timestamp(waiting.opened_ms / 1000.0) AS opened, to_timestamp(waiting.last_ms / 1000.0) AS "last exposure",
    to_timestamp(waiting.deadline_ms / 1000.0) AS "closes at the latest"
FROM ${schema:raw}.open_group AS waiting
    LEFT JOIN ${schema:raw}.exposure
        ON exposure.instrument = waiting.instrument AND exposure.group_key = waiting.group_key
WHERE waiting.instrument = ANY (string_to_array('${instrument:csv}', ','))
GROUP BY waiting.instrument, waiting.group_key ORDER BY waiting.opened_ms LIMIT 200;

-- name: dead_letters_by_reason
SELECT reason, count(*) AS open FROM ${schema:raw}.dead_letter
WHERE status = 'open' GROUP BY reason ORDER BY 2 DESC, 1;

-- name: dead_letters
-- Open dead letters, the latest first. The raw bytes stay in the table.
SELECT id::text AS id, reason, detail, instrument, exposure::text AS exposure, group_key AS "group",
    topic || '[' || partition || '] ' || "offset" AS message, recorded_at AS recorded
FROM ${schema:raw}.dead_letter WHERE status = 'open' ORDER BY dead_letter.id DESC LIMIT 200;

-- name: skipped
-- Exposures that are in no visit, by type: calibrations and closed-dome exposures are meant to be here.
SELECT exposure.instrument, coalesce(exposure.observation_type, 'unknown') AS type,
    coalesce(exposure.observation_reason, 'unknown') AS "reason of observation", count(*) AS exposures
FROM ${schema:raw}.exposure
WHERE exposure.day_obs = nullif('${night:raw}', '')::integer
    AND exposure.instrument = ANY (string_to_array('${instrument:csv}', ','))
    AND NOT EXISTS (
        SELECT FROM ${schema:raw}.visit_definition AS member
        WHERE member.instrument = exposure.instrument AND member.exposure = exposure.id
    )
GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3;

-- name: waits
-- Wall clock from the first raw of a visit's exposures to its first definition, by close reason.
WITH waits AS (
    SELECT visit.close_reason, extract(epoch FROM visit.defined_at - min(exposure.first_seen_at)) AS seconds
    FROM ${schema:raw}.visit
        JOIN ${schema:raw}.visit_definition AS member
            ON member.instrument = visit.instrument AND member.visit = visit.id
        JOIN ${schema:raw}.exposure ON exposure.instrument = member.instrument AND exposure.id = member.exposure
    WHERE visit.day_obs = nullif('${night:raw}', '')::integer
        AND visit.instrument = ANY (string_to_array('${instrument:csv}', ','))
    GROUP BY visit.instrument, visit.id
)
SELECT close_reason AS "closed by", count(*) AS visits,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS median,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS "95 %", max(seconds) AS longest
FROM waits GROUP BY 1 ORDER BY 2 DESC;

-- name: revised
-- Visits that were defined more than once: late or corrected exposures, or a redefinition by hand.
SELECT instrument, id::text AS visit, name, revision, close_reason AS "closed by", algorithm, padding,
    software_version AS software, updated_at AS written
FROM ${schema:raw}.visit
WHERE revision > 1 AND day_obs = nullif('${night:raw}', '')::integer
    AND instrument = ANY (string_to_array('${instrument:csv}', ','))
ORDER BY updated_at DESC LIMIT 200;

-- name: audit_findings
-- What the night's last audit found, errors first.
SELECT finding.instrument, finding.rule, finding.severity, finding.subject, finding.subjects, finding.found,
    finding.detail, run.audited_at AS audited
FROM ${schema:raw}.audit_finding AS finding
    JOIN ${schema:raw}.audit_run AS run USING (instrument, day_obs)
WHERE finding.day_obs = nullif('${night:raw}', '')::integer
    AND finding.instrument = ANY (string_to_array('${instrument:csv}', ','))
ORDER BY finding.severity, finding.instrument, finding.number LIMIT 200;
