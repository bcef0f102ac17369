"""Speed against named peers and against the machine: `make bench` runs all of it."""
