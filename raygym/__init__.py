"""raygym: any program behind a screen or a socket as a Gymnasium environment, many of them on Ray."""

__version__ = "0.1.0"
