-- The outbox: announcements in the order of their ids, sent by one process at a time; and the removal of what is done.

-- name: lead
-- Whether this session is the one that may send: it holds the lock, or gets it now. The lock is the session's, so that
-- it goes with a process that dies; it is asked for by its name each time, because a lost session loses it silently.
-- The second key tells apart services that share a database, each with a schema of its own.
SELECT CASE
    WHEN EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND classid = 8244264
            AND objid = (hashtext(split_part(current_setting('search_path'), ',', 1))::bigint & 4294967295)::oid
            AND objsubid = 2
    )
    THEN true
    ELSE pg_try_advisory_lock(8244264, hashtext(split_part(current_setting('search_path'), ',', 1)))
END;

-- name: lead_by_lease
-- The same where sessions are pooled: the process that holds the lease, or finds that it has run out.
INSERT INTO relay_lease AS held (owner, held_until)
VALUES (%(owner)s, now() + make_interval(secs => %(seconds)s))
ON CONFLICT (id) DO UPDATE
SET owner = excluded.owner, held_until = excluded.held_until
WHERE held.owner = excluded.owner OR held.held_until < now();

-- name: give_up_lease
DELETE FROM relay_lease WHERE owner = %(owner)s;

-- name: unsent
-- In the order of ids, which for one visit is that of its revisions: the next one waits for the lock on the visit's row.
SELECT id, instrument, visit, payload
FROM outbox
WHERE sent_at IS NULL
ORDER BY id
LIMIT %(limit)s;

-- name: mark_sent
UPDATE outbox SET sent_at = now() WHERE id = ANY(%(ids)s::bigint[]) AND sent_at IS NULL;

-- name: backlog
SELECT count(*), extract(epoch FROM min(created_at))::double precision FROM outbox WHERE sent_at IS NULL;

-- name: remove_sent
-- At most so many at once, so that no transaction is long; rows that another transaction has locked are left for the next time.
DELETE FROM outbox
WHERE id IN (
    SELECT id FROM outbox
    WHERE sent_at < now() - make_interval(secs => %(seconds)s)
    ORDER BY id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
);

-- name: remove_settled
-- Dead letters that are still open stay, however old they are.
DELETE FROM dead_letter
WHERE id IN (
    SELECT id FROM dead_letter
    WHERE status <> 'open' AND settled_at < now() - make_interval(secs => %(seconds)s)
    ORDER BY id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
);
