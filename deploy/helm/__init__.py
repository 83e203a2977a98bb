"""The Helm chart, and the program that writes its values.schema.json."""
