"""How the bytes of a store are read and written: in a folder, and in an archive."""
