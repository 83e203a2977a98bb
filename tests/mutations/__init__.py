"""The ledger of mutants: lines that were changed on purpose, and the test that each change must make fail."""
