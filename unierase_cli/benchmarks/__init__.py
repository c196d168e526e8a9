"""What is to be forgotten, what may be retained, and what is scored: one file per benchmark.

A `BenchmarkConfig` and files of facts come in. A checked, fingerprinted `Benchmark` goes out.
"""
