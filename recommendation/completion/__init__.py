"""What was asked before -> what to ask next: completions while typing."""
