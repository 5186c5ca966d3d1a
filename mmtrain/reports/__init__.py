"""What a finished model is worth: numbers, sample pictures and one self-contained page. Never imports torch."""
