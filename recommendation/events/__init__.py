"""What users do -> an append-only log, which recommendation and learning read."""
