-- Bringing the schema up to date.

-- name: lock
-- Waits for another migration; held until the transaction ends. The key is this service's own.
SELECT pg_advisory_xact_lock(8244263, 1);

-- name: create_schema
-- The first schema of the search path is ours; its name is a setting, and checked there to be an identifier.
DO $$
BEGIN
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', split_part(current_setting('search_path'), ',', 1));
END $$;

-- name: create_schema_version
CREATE TABLE IF NOT EXISTS schema_version (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: has_schema_version
SELECT to_regclass('schema_version') IS NOT NULL;

-- name: applied
SELECT version, name, checksum FROM schema_version ORDER BY version;

-- name: record
INSERT INTO schema_version (version, name, checksum) VALUES (%(version)s, %(name)s, %(checksum)s);
