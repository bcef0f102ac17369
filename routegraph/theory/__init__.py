"""What eviction and reachability should be, in closed form or by a short recursion (docs/theory.md).

`ger`, `copula`, `correlation`: eviction; independent slots, factor models, copulas, small correlation fields.
`reach`, `fluctuations`, `loads`: reachability; the cavity recursion, with the first layers' fluctuations, and the
reads it takes. `growth`, `markov`: non-causal reads. `propositions`: what the paper proposes.
"""
