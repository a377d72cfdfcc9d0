"""A video -> others that the same people watch, and others like it."""
