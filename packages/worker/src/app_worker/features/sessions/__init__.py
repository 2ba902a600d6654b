"""The part of login sessions in an export."""
