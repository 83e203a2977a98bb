-- Heartbeats: one row for each running replica.

-- name: beat
INSERT INTO replica AS stored (owner, consumer_group, version, state, reasons, partitions, backend, started_at)
VALUES (
    %(owner)s, %(consumer_group)s, %(version)s, %(state)s, %(reasons)s::text[], %(partitions)s::jsonb,
    pg_backend_pid(), %(started_at)s
)
ON CONFLICT (owner) DO UPDATE
SET consumer_group = excluded.consumer_group, version = excluded.version, state = excluded.state,
    reasons = excluded.reasons, partitions = excluded.partitions, backend = excluded.backend,
    started_at = excluded.started_at, beat_at = now();

-- name: remove_silent
-- Replicas that died without removing their row.
DELETE FROM replica WHERE beat_at < now() - make_interval(secs => %(seconds)s);

-- name: remove
DELETE FROM replica WHERE owner = %(owner)s;

-- name: wake
-- The payload is the schema in which something was committed.
SELECT pg_notify('visit_consumer', %(schema)s);

-- name: listen
LISTEN visit_consumer;
