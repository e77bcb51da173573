"""What is counted, and who counts it, through ray.util.metrics."""
