"""Statistics that know no cache: intervals, bootstrap, proportions, AUC."""
