"""All queries, in small concrete classes; the name of each method says what it finds."""
