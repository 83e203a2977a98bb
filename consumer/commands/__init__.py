"""The subcommands, one module for each subject: options in, one call of `consumer.admin`, text out.

Nothing is decided here. `consumer.cli` loads a module when its command is asked for.
"""
