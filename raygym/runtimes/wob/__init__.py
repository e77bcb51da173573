"""The wob runtime: MiniWoB's tasks in a browser."""
