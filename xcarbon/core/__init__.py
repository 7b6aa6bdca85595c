"""Vocabulary, CF conventions, options and errors that every other folder uses."""
