"""Events on their way to the backend: to the disk first, from there in order, and again until they arrive."""
