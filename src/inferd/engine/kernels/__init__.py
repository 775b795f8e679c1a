"""The CPU's kernels, in Numba: vector types, products, attention, what lies between, and the team
of threads that runs them. They take addresses and refuse to know models, requests and files."""
