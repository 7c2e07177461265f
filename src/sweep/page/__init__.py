"""Figures and the report's HTML page."""
