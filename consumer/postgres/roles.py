"""The group roles of least privilege: their SQL for a schema, as a script or applied."""

from consumer.postgres.connection import Database
from consumer.postgres.sql_files import statements

_BLOCKS = ("create", "default_privileges", "privileges")


def roles_script(schema: str) -> str:
    """Write the script that makes the roles and gives them their rights on a schema, for ``psql``.

    Parameters
    ----------
    schema
        An identifier that needs no quotes, as the setting ``database.schema`` is one.
    """
    blocks = [statements("roles")[name].decode() for name in _BLOCKS]
    head = f"-- Group roles of the visit consumer, for schema {schema}; as a superuser, in the database of the visits."
    return "\n\n".join([head, "BEGIN;", f"SET LOCAL search_path TO {schema}, pg_catalog;", *blocks, "COMMIT;"])


def apply_roles(database: Database) -> None:
    """Make the roles and give them their rights, in one transaction; done twice, it changes nothing.

    Parameters
    ----------
    database
        A session of a superuser.

    Raises
    ------
    FatalError
        When the session's role may not do this.
    """
    with database.transaction() as session:
        for name in _BLOCKS:
            session.run("roles", name)
