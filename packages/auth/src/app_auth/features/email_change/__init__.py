"""Changes of address: a link to the new one, and one to the old one that undoes it (ADR-0071)."""
