"""Vocabulary, CF conventions, options, errors and checks that all other folders use."""
