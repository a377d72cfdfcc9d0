"""Sequences -> a causal transformer over items, and what it recommends next."""
