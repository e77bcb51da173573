"""Environments that wait for their client: one step of theirs for each step asked."""
