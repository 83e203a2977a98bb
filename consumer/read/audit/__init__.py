"""What is wrong with a night: named rules over one moment of the tables. A rule is one file of `rules`."""
