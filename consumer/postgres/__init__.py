"""The store adapter: everything that speaks to PostgreSQL.

`connection` opens sessions with their bounds, `migrations` brings the schema up to date, `store` is what one batch's
transaction reads and writes, `sql` holds every statement. No other package imports psycopg, and no SQL stands in
Python code.
"""
