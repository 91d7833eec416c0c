"""Flask: what a client asks becomes values, and replies become responses."""
