"""Values that the user's code reads, told so that two versions of them can be told apart."""
