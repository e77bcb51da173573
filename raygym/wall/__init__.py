"""The wall: what every slot of a cluster sees, on one page."""
