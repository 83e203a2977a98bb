"""Tests of the visit consumer, by what they need: unit and property nothing, integration and faults real servers."""
