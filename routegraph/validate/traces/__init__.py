"""Traces: one prefill a prompt, written down; what eviction does to it, read off."""
