"""What was learned of a user -> the order of answers, and reasons for it."""
