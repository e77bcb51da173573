"""Many environments of one node, stepped side by side: no Ray, no torch, no sockets."""
