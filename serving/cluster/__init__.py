"""Serves an index with the processes of a Ray cluster."""
