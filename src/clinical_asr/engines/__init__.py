"""Engines: callables the stages are handed."""
