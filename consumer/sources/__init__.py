"""From files to events: headers of raws are read, translated and announced. Extra ``sources``."""
