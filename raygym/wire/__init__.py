"""Protocols as bytes in, events out; both ends; no sockets, no clocks."""
