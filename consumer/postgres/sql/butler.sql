-- Positions of Butler sinks: per sink and visit, the revision that was dealt with and the regions that were written.

-- name: register
-- The first process of a name says which repository it is about.
INSERT INTO butler_sink (name, repository) VALUES (%(sink)s, %(repository)s) ON CONFLICT (name) DO NOTHING;

-- name: repository
SELECT repository FROM butler_sink WHERE name = %(sink)s;

-- name: lead
-- Whether this session is the one that runs the sink: it holds the lock, or gets it now. The lock goes with the session.
SELECT CASE
    WHEN EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND classid = 8244265
            AND objid = (
                hashtext(split_part(current_setting('search_path'), ',', 1) || '/' || %(sink)s)::bigint & 4294967295
            )::oid
            AND objsubid = 2
    )
    THEN true
    ELSE pg_try_advisory_lock(
        8244265, hashtext(split_part(current_setting('search_path'), ',', 1) || '/' || %(sink)s)
    )
END;

-- name: lead_by_lease
-- The same where sessions are pooled: the process that holds the lease, or finds that it has run out.
UPDATE butler_sink
SET owner = %(owner)s, held_until = now() + make_interval(secs => %(seconds)s)
WHERE name = %(sink)s AND (owner = %(owner)s OR held_until < now());

-- name: give_up_lease
UPDATE butler_sink SET held_until = '-infinity' WHERE name = %(sink)s AND owner = %(owner)s;

-- name: pending
-- Every visit whose revision the sink has not dealt with, a page at a time.
SELECT visit.instrument, visit.id, visit.day_obs, visit.updated_at
FROM visit
LEFT JOIN butler_sink_visit AS done
    ON done.sink = %(sink)s AND done.instrument = visit.instrument AND done.visit = visit.id
WHERE done.revision IS DISTINCT FROM visit.revision
    AND (%(from_night)s::integer IS NULL OR visit.day_obs >= %(from_night)s)
    AND (
        %(after_time)s::timestamptz IS NULL
        OR (visit.updated_at, visit.instrument, visit.id)
            > (%(after_time)s::timestamptz, %(after_instrument)s::text, %(after_visit)s::bigint)
    )
ORDER BY visit.updated_at, visit.instrument, visit.id
LIMIT %(limit)s;

-- name: pending_of_late
-- The same among visits that were written a short while ago: one range of an index. A transaction that took longer to
-- commit is found by the next complete look.
SELECT visit.instrument, visit.id, visit.day_obs, visit.updated_at
FROM visit
LEFT JOIN butler_sink_visit AS done
    ON done.sink = %(sink)s AND done.instrument = visit.instrument AND done.visit = visit.id
WHERE visit.updated_at >= now() - make_interval(secs => %(seconds)s)
    AND done.revision IS DISTINCT FROM visit.revision
    AND (%(from_night)s::integer IS NULL OR visit.day_obs >= %(from_night)s)
ORDER BY visit.updated_at, visit.instrument, visit.id
LIMIT %(limit)s;

-- name: revisions
SELECT id, revision FROM visit WHERE instrument = %(instrument)s AND id = ANY(%(visits)s::bigint[]);

-- name: visit_systems
SELECT instrument, id, name FROM visit_system WHERE instrument = %(instrument)s;

-- name: remembered
SELECT visit, written, intended
FROM butler_sink_visit
WHERE sink = %(sink)s AND instrument = %(instrument)s AND visit = ANY(%(visits)s::bigint[]);

-- name: intend
-- Before the registry's transaction: a process that dies after its commit finds its own regions again by this.
INSERT INTO butler_sink_visit AS done (sink, instrument, visit, state, intended)
SELECT %(sink)s, %(instrument)s, given.visit, 'writing', given.digest
FROM unnest(%(visits)s::bigint[], %(digests)s::bytea[]) AS given (visit, digest)
ORDER BY given.visit
ON CONFLICT (sink, instrument, visit) DO UPDATE SET intended = excluded.intended;

-- name: advance
-- After it. Digests that are null leave what was written last as it is.
INSERT INTO butler_sink_visit AS done (sink, instrument, visit, revision, state, detail, written)
SELECT %(sink)s, %(instrument)s, given.*
FROM unnest(
    %(visits)s::bigint[], %(revisions)s::integer[], %(states)s::text[], %(details)s::text[], %(digests)s::bytea[]
) AS given (visit, revision, state, detail, written)
ORDER BY given.visit
ON CONFLICT (sink, instrument, visit) DO UPDATE
SET revision = excluded.revision, state = excluded.state, detail = excluded.detail,
    written = coalesce(excluded.written, done.written), intended = NULL, updated_at = now();

-- name: resolve
-- Groups that no sink refuses any more: some of one instrument, or any.
UPDATE dead_letter
SET status = 'resolved', settled_at = now()
WHERE "offset" IS NULL AND status = 'open' AND reason = 'butler_refused'
    AND (
        %(instrument)s::text IS NULL
        OR (instrument = %(instrument)s::text AND group_key = ANY(%(group_keys)s::text[]))
    )
    AND NOT EXISTS (
        SELECT FROM butler_sink_visit AS refused
        JOIN visit ON visit.instrument = refused.instrument AND visit.id = refused.visit
        WHERE refused.state = 'refused' AND visit.instrument = dead_letter.instrument
            AND visit.group_key = dead_letter.group_key
    );

-- name: forget_removed
-- Refused visits that the tables no longer have. What the registry has of one, by a former revision, is noted as removed.
UPDATE butler_sink_visit AS done
SET state = CASE WHEN done.written IS NULL THEN 'writing' ELSE 'written' END, detail = '', updated_at = now()
WHERE done.sink = %(sink)s AND done.state = 'refused'
    AND NOT EXISTS (SELECT FROM visit WHERE visit.instrument = done.instrument AND visit.id = done.visit);

-- name: retry_refused
UPDATE butler_sink_visit SET revision = NULL, state = 'writing' WHERE sink = %(sink)s AND state = 'refused';

-- name: notes
-- What needs an operator: regions of another client, refused visits, and visits that the tables no longer have.
SELECT instrument, visit, revision, state, detail, updated_at
FROM butler_sink_visit
WHERE sink = %(sink)s AND state IN ('kept', 'refused')
UNION ALL
SELECT done.instrument, done.visit, done.revision, 'removed',
    'removed from the tables; the registry still has it, and has no way to delete a visit', retired.retired_at
FROM retired_visit AS retired
JOIN butler_sink_visit AS done
    ON done.sink = %(sink)s AND done.instrument = retired.instrument AND done.visit = retired.id
WHERE done.state IN ('written', 'kept')
    AND NOT EXISTS (SELECT FROM visit WHERE visit.instrument = retired.instrument AND visit.id = retired.id)
ORDER BY 1, 2;
