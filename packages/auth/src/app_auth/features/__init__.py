"""The rules of features, without HTTP: one folder each. The rest of app_auth imports none of them."""
