-- What every session starts with, or every transaction where sessions are pooled.

-- name: backend
SELECT pg_backend_pid();

-- name: configure
SELECT set_config(name, value, %(local)s)
FROM unnest(%(names)s::text[], %(values)s::text[]) AS setting (name, value);

-- name: snapshot
-- The first statement of a transaction: all that follow see what was committed when the next one began.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;

-- name: raise_timeouts
-- Raises the bounds of one transaction; one that is off stays so.
SELECT set_config(name, least(setting::bigint * %(times)s, 2147483647)::text, true)
FROM pg_settings
WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout');
