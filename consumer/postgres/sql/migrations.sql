-- Bringing the schema up to date.

-- name: lock
-- Waits for another migration; held until the transaction ends. The key is this service's own.
SELECT pg_advisory_xact_lock(8244263, 1);

-- name: create_schema
-- The first schema of the search path is ours; its name is a setting, and checked there to be an identifier.
DO $$
BEGIN
    -- Not IF NOT EXISTS, which asks for the privilege to create even where the schema is there.
    IF to_regnamespace(split_part(current_setting('search_path'), ',', 1)) IS NULL THEN
        EXECUTE format('CREATE SCHEMA %I', split_part(current_setting('search_path'), ',', 1));
    END IF;
END $$;

-- name: create_schema_version
CREATE TABLE IF NOT EXISTS schema_version (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    -- The oldest version whose release still runs on this one.
    works_with integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: has_schema_version
SELECT to_regclass('schema_version') IS NOT NULL;

-- name: applied
SELECT version, name, checksum, works_with FROM schema_version ORDER BY version;

-- name: record
INSERT INTO schema_version (version, name, checksum, works_with)
VALUES (%(version)s, %(name)s, %(checksum)s, %(works_with)s);
