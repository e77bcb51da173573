"""Learning curves and the page that is left of a run."""
