"""RLlib on rollouts of the service."""
