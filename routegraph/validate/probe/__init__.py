"""Linear probes: what a classifier still reads where generation fails."""
