"""The log of events, followed as it grows -> each user's history, and what is watched together."""
