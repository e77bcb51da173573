"""The service for clients without Ray: leases and steps remotes for them."""
