"""The maths of learning: networks, returns, A3C."""
