"""What eviction and reachability should be, in closed form or by a short recursion.

`ger`: independent slots, one-factor and measured-correlation copulas. `reach`: the cavity recursion.
"""
