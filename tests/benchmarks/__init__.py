"""Benchmarks: functrans beside its peers, interleaved, on the same inputs; they assert no times.

python -m tests.benchmarks --help
"""
