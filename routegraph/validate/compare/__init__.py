"""Comparison: what was read off a model beside theory, simulation and measured answers."""
