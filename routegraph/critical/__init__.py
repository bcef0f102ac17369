"""Critical points of curves, whatever they are curves of: half points, peaks, crossings, collapse, cliffs."""
