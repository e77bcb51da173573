"""The .proto files and what protoc makes of them; ``scripts/build_protos.py`` does that."""
