"""What travels with an exported model. `predict_standalone.py` imports nothing of the trainer."""
