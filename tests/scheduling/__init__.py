"""The scheduler before a simulated engine and clock, and its parts."""
