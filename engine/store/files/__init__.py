"""How the bytes of a store are read: in a folder, and in an archive."""
