"""What users do -> related videos, a feed for each user, and what to ask next."""
