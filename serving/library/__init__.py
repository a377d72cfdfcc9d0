"""The library process: the one that changes the index, while the workers search it."""
