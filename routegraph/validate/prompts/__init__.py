"""Prompts: what is asked, as text, as tokens, and whether a reply is right."""
