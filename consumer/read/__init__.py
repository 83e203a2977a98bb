"""Every question over the tables, one module for each: commands, the page and notebooks ask here.

Each function takes a `Database`, a session of the reader role, and returns values; nothing is written.
"""
