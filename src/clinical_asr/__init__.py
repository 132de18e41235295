"""The clinical ASR flywheel: one command from spoken clinical terms to a decision about a fine-tuned model."""

__version__ = "0.1.0"
