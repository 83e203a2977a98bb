"""The demo: the whole path on one machine, with a broker and a database in this process and pictures at the end."""
