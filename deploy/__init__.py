"""What an operator deploys; the only Python in it writes the Grafana boards."""
