"""Sign in with others, by OpenID Connect: any provider that can be discovered."""
