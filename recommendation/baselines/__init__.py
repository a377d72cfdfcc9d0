"""Simple recommenders, which every other is measured against."""
