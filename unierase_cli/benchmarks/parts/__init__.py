"""What several benchmarks share: checked rows, retain splits, neighbours, and the parts of the fictional world."""
