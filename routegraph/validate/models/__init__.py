"""Models: which are to be had without a hub, how any is loaded, and what each family needs."""
