"""The far end: what runs inside a remote."""
