"""The near end: one remote as a Gymnasium environment."""
