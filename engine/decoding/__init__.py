"""Image files to pictures, ahead of the network: threads, processes, GPU."""
