"""The tests: a folder a room, plus end to end."""
