"""The Runtime that hosts any environment of Gymnasium's."""
