"""Sign in with others: who a provider says somebody is, and what follows from it. No HTTP."""
