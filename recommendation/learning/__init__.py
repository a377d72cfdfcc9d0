"""A model that learns while it runs: examples in order of time -> probabilities, and tables."""
