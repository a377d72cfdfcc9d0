"""The log of events -> what is learned from it, in versioned folders that servers pick up."""
