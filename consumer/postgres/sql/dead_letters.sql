-- Dead letters as operators choose them. A parameter that is null chooses nothing out.

-- name: choose
SELECT
    id, reason, detail, instrument, exposure, group_key, cluster_id, topic, topic_id, partition, "offset", key, value,
    message_at, status, recorded_at, settled_at
FROM dead_letter
WHERE (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s::bigint[]))
    AND (%(reasons)s::text[] IS NULL OR reason = ANY(%(reasons)s::text[]))
    AND (%(statuses)s::text[] IS NULL OR status = ANY(%(statuses)s::text[]))
    AND (%(instrument)s::text IS NULL OR instrument = %(instrument)s)
    AND (%(exposure)s::bigint IS NULL OR exposure = %(exposure)s)
    AND (%(topic)s::text IS NULL OR topic = %(topic)s)
    AND (%(partition)s::integer IS NULL OR partition = %(partition)s)
    AND (%(first_offset)s::bigint IS NULL OR "offset" >= %(first_offset)s)
    AND (%(last_offset)s::bigint IS NULL OR "offset" <= %(last_offset)s)
    AND (%(since)s::timestamptz IS NULL OR recorded_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR recorded_at < %(until)s)
    AND id > %(after)s
ORDER BY id
LIMIT %(limit)s;

-- name: close
-- An operator's decision. What a consumer or another operator closed in the meantime stays as it is.
UPDATE dead_letter
SET status = %(status)s, settled_at = now()
WHERE id = ANY(%(ids)s::bigint[]) AND status = ANY(%(before)s::text[])
RETURNING id;
