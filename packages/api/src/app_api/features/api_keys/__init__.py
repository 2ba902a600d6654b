"""Keys for machines, over HTTP and in the console."""
