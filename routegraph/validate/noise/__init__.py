"""The logit noise of a cache of few bits, read off a real model: what the simulator is run with."""
