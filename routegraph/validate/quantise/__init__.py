"""Caches of fewer bits: what a text such as "kivi4" means, rounding to it, and the bytes that it takes."""
