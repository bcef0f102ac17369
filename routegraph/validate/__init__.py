"""Real models: fetch, prefill, read off what eviction does, and set it beside theory and simulation.

torch, transformers and kvpress are imported inside functions only.
"""
