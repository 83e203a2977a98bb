"""Grafana boards as code: ``python -m deploy.dashboards`` writes the JSON that chart and compose file provision."""
