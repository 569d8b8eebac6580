"""One module a version; what is in them stays as it was when the version came out."""
