"""The explorer: a page that shows and tries the model, from files of this package alone."""
