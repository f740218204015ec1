"""Images in arrays of HDF5 and NumPy files, read in place."""
