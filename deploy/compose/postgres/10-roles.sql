-- Roles of the Compose stack, made by psql when the database is made: the owner migrates, the writer runs, the reader
-- serves dashboards. What the owner makes later is open to the other two from the start, by default privileges.
\set ON_ERROR_STOP on
\set owner_password `cat /run/secrets/owner_password`
\set writer_password `cat /run/secrets/writer_password`
\set reader_password `cat /run/secrets/reader_password`

CREATE ROLE visit_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE visit_writer LOGIN PASSWORD :'writer_password';
CREATE ROLE visit_reader LOGIN PASSWORD :'reader_password';

ALTER DATABASE visits OWNER TO visit_owner;
REVOKE ALL ON DATABASE visits FROM PUBLIC;
GRANT CONNECT ON DATABASE visits TO visit_writer, visit_reader;

ALTER DEFAULT PRIVILEGES FOR ROLE visit_owner GRANT USAGE ON SCHEMAS TO visit_writer, visit_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE visit_owner GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO visit_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE visit_owner GRANT USAGE ON SEQUENCES TO visit_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE visit_owner GRANT SELECT ON TABLES TO visit_reader;
