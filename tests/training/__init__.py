"""Training and measuring."""
