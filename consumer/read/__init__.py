"""Every question over the tables, one module for each: commands, the page and notebooks ask here.

Each function takes settings, reads at one moment of the database as the reader role, and returns values.
"""
