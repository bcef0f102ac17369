"""Monte Carlo: graphs and scores drawn from ensembles, evicted by the real policies, read at all ratios."""
