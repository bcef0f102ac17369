"""Seeded generators of prompts."""
