"""Measurement: answers under eviction, item by item, beside what may tell which items fail."""
