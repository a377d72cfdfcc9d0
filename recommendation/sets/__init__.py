"""Recommends from sets of items, which have no order: filters on the graph of users and items."""
