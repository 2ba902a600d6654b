"""What an export holds of login sessions."""
