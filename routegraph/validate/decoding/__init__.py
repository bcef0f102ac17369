"""Decoding over a cache with dead slots: all variants at once, and knockouts."""
