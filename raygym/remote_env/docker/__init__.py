"""Remotes in Docker containers. The only place, with ``raygym.images``, that knows the SDK."""
