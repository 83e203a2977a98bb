"""Visits for the Virtual Observatory: the description of the ObsCore table, and exports in its formats.

The columns are those of `consumer.domain.obscore`. Formats need the extra ``vo``.
"""
