"""Tests of the service, through its door."""
