-- A night, as the rules of `consumer.read.audit` check it, and its last audit.

-- name: instruments
SELECT DISTINCT instrument FROM exposure WHERE day_obs = %(day_obs)s
UNION
SELECT DISTINCT instrument FROM visit WHERE day_obs = %(day_obs)s
ORDER BY 1;

-- name: exposures
SELECT {exposure}, exposure.first_seen_at, exposure.updated_at, now()
FROM exposure
WHERE instrument = %(instrument)s AND day_obs = %(day_obs)s
ORDER BY id;

-- name: visits
-- Of the night, or of one of its groups. The last column: the visit was written since announcements are kept.
SELECT
    id, group_key, revision, updated_at >= (SELECT created_at FROM outbox ORDER BY outbox.id LIMIT 1)
FROM visit
WHERE instrument = %(instrument)s AND (day_obs = %(day_obs)s OR group_key = ANY(%(group_keys)s::text[]))
ORDER BY id;

-- name: announced
-- The last announced revision of each visit, as far as announcements are kept.
SELECT visit, max(revision) FROM outbox WHERE instrument = %(instrument)s GROUP BY visit;

-- name: open_groups
SELECT
    g.group_key, g.opened_ms, g.deadline_ms, log.stream_time_ms,
    extract(epoch FROM now() - log.updated_at)::double precision,
    (extract(epoch FROM now()) * 1000)::bigint
FROM open_group AS g
LEFT JOIN consumer_offset AS log ON log.id = g.clock
WHERE g.instrument = %(instrument)s
ORDER BY g.group_key;

-- name: dead_letters
-- Of the night's exposures and groups; those of nothing that is stored count to the night in which they were recorded.
SELECT id, reason, exposure, group_key, detail
FROM dead_letter
WHERE status = 'open' AND (
    (instrument = %(instrument)s AND (
        exposure = ANY(%(exposures)s::bigint[])
        OR (exposure IS NULL AND group_key = ANY(%(group_keys)s::text[]))
    ))
    OR (
        (instrument IS NULL OR instrument = %(instrument)s)
        AND recorded_at BETWEEN %(since)s AND %(until)s
        AND NOT EXISTS (
            SELECT FROM exposure AS e WHERE e.instrument = dead_letter.instrument AND e.id = dead_letter.exposure
        )
        AND NOT EXISTS (
            SELECT FROM exposure AS e
            WHERE e.instrument = dead_letter.instrument AND e.group_key = dead_letter.group_key
        )
    )
)
ORDER BY id;

-- name: store_run
INSERT INTO audit_run (instrument, day_obs, software_version, rules, findings, untold)
VALUES (
    %(instrument)s, %(day_obs)s, %(software_version)s, %(rules)s::text[], %(findings)s, %(untold)s::text[]
)
ON CONFLICT (instrument, day_obs) DO UPDATE
SET (audited_at, software_version, rules, findings, untold)
    = ROW(now(), excluded.software_version, excluded.rules, excluded.findings, excluded.untold);

-- name: delete_findings
DELETE FROM audit_finding WHERE instrument = %(instrument)s AND day_obs = %(day_obs)s;

-- name: store_finding
INSERT INTO audit_finding (instrument, day_obs, number, rule, severity, subject, subjects, found, detail)
VALUES (
    %(instrument)s, %(day_obs)s, %(number)s, %(rule)s, %(severity)s, %(subject)s, %(subjects)s, %(found)s, %(detail)s
);

-- name: last_runs
-- The newest audited night of each instrument.
SELECT
    run.instrument, run.day_obs, run.audited_at,
    coalesce(sum(finding.found) FILTER (WHERE finding.severity = 'error'), 0)::integer,
    coalesce(sum(finding.found) FILTER (WHERE finding.severity = 'warning'), 0)::integer
FROM audit_run AS run
LEFT JOIN audit_finding AS finding USING (instrument, day_obs)
WHERE run.day_obs = (SELECT max(day_obs) FROM audit_run AS other WHERE other.instrument = run.instrument)
GROUP BY run.instrument, run.day_obs, run.audited_at
ORDER BY run.instrument;
