"""The document room: bytes to an accepted Config, or everything that is wrong and where."""
