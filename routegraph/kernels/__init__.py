"""numba kernels: arrays in, arrays out; no classes, no checks. Each has a slow twin in tests/naive.py."""
