"""Eviction while decoding: rows arrive one by one, and a policy keeps at most its budget of them in every slot.

`simulate_decoding` is what users call; `policies` are the registered ones; `slot` is what a policy is given; with
`attention` one written in Python sees the attention step by step.
"""
