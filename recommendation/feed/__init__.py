"""A user's history -> a feed of videos."""
