"""A Source that keeps what it was given, for whom the registry lets read it."""
