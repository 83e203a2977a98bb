-- Three group roles of least privilege: visit_owner migrates, visit_writer runs the service, visit_reader serves
-- dashboards. Idempotent; before the first migration or after any. `visit-consumer roles` prints it for a schema.
--
-- The schema is the first of search_path. Roles belong to the whole server, and so to every schema that is given to them.
-- They cannot log in by themselves. Grant one of them to a login role:
--     CREATE ROLE tonight LOGIN PASSWORD '...' IN ROLE visit_writer;
-- What a login makes is its own and not the group's, so one that migrates becomes the group at once:
--     CREATE ROLE releases LOGIN PASSWORD '...' IN ROLE visit_owner; ALTER ROLE releases SET role = visit_owner;

-- name: create
-- The roles and the schema; what another role has migrated so far becomes the owner's. Needs a superuser.
DO $$
DECLARE
    own text := split_part(current_setting('search_path'), ',', 1);
    role text;
    made record;
BEGIN
    FOREACH role IN ARRAY ARRAY['visit_owner', 'visit_writer', 'visit_reader'] LOOP
        IF to_regrole(role) IS NULL THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
    END LOOP;
    IF to_regnamespace(own) IS NULL THEN
        EXECUTE format('CREATE SCHEMA %I', own);
    END IF;
    EXECUTE format('ALTER SCHEMA %I OWNER TO visit_owner', own);
    FOR made IN
        SELECT format('TABLE %s', oid::regclass) AS name
        FROM pg_class
        WHERE relnamespace = to_regnamespace(own) AND relkind IN ('r', 'p', 'v', 'm')
        UNION ALL
        SELECT format('ROUTINE %s', oid::regprocedure) FROM pg_proc WHERE pronamespace = to_regnamespace(own)
    LOOP
        EXECUTE format('ALTER %s OWNER TO visit_owner', made.name);
    END LOOP;
END $$;

-- name: default_privileges
-- What the owner makes later is open to the others from the start.
DO $$
DECLARE
    own text := split_part(current_setting('search_path'), ',', 1);
    ours text := format('ALTER DEFAULT PRIVILEGES FOR ROLE visit_owner IN SCHEMA %I ', own);
BEGIN
    EXECUTE ours || 'GRANT SELECT, INSERT, UPDATE ON TABLES TO visit_writer';
    EXECUTE ours || 'GRANT SELECT ON TABLES TO visit_reader';
END $$;

-- name: privileges
-- Exactly what each table needs; each migration repeats it, where the roles are there. The writer never removes an
-- exposure, a raw's region or a position, and does not touch the schema's versions.
DO $$
DECLARE
    own text := split_part(current_setting('search_path'), ',', 1);
    made record;
BEGIN
    IF to_regrole('visit_writer') IS NULL OR to_regrole('visit_reader') IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO visit_writer, visit_reader', own);
    FOR made IN
        SELECT stored.oid::regclass AS name, coalesce(exact.rights, 'SELECT, INSERT, UPDATE') AS rights
        FROM pg_class AS stored
        LEFT JOIN (
            VALUES
                ('schema_version', 'SELECT'),
                ('obscore', 'SELECT'),
                ('missing_raw', 'SELECT'),
                ('known_instrument', 'SELECT'),
                ('visit_obscore_public', 'SELECT'),
                ('visit_obscore', 'SELECT, INSERT, UPDATE, DELETE'),
                ('retired_visit', 'SELECT, INSERT, UPDATE'),
                ('visit', 'SELECT, INSERT, UPDATE, DELETE'),
                ('visit_definition', 'SELECT, INSERT, DELETE'),
                ('visit_system_membership', 'SELECT, INSERT, DELETE'),
                ('visit_detector_region', 'SELECT, INSERT, DELETE'),
                ('visit_htm7', 'SELECT, INSERT, DELETE'),
                ('open_group', 'SELECT, INSERT, UPDATE, DELETE'),
                ('dead_letter', 'SELECT, INSERT, UPDATE, DELETE'),
                ('outbox', 'SELECT, INSERT, UPDATE, DELETE'),
                ('relay_lease', 'SELECT, INSERT, UPDATE, DELETE'),
                ('replica', 'SELECT, INSERT, UPDATE, DELETE'),
                ('audit_run', 'SELECT, INSERT, UPDATE, DELETE'),
                ('audit_finding', 'SELECT, INSERT, DELETE')
        ) AS exact (name, rights) ON exact.name = stored.relname
        WHERE stored.relnamespace = to_regnamespace(own) AND stored.relkind IN ('r', 'p', 'v', 'm')
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM visit_writer, visit_reader', made.name);
        EXECUTE format('GRANT %s ON %s TO visit_writer', made.rights, made.name);
        EXECUTE format('GRANT SELECT ON %s TO visit_reader', made.name);
    END LOOP;
END $$;
