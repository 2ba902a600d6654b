"""What is held about a user, for the user."""
