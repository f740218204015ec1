"""Scale: units, images, categories and workers."""
