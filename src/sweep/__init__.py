"""How good is a checkpoint really? Anneal it, score it before and after, sweep the settings, compare."""

__version__ = "0.1.0"
