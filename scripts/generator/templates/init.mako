"""${words.many.capitalize()}."""
