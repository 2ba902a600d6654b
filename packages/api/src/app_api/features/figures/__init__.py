"""Figures over time, for operators."""
