"""Figures over time: what ended each minute, so that no page counts the jobs themselves."""
