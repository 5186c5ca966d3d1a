"""What a session is made of, from the first sign of life to the outcome."""
