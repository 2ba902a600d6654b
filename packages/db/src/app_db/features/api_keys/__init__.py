"""Keys for machines, which act for the user who has made them."""
