"""Benchmarks: one module a claim, each run by `make bench BENCH=<module>`."""
