"""Many remotes: Ray actors and the rollouts that they give."""
