"""The vocabulary, CF conventions, options, errors and checks that all other folders use.

``variables`` is the list of all variables: code, CF name, units, bounds, columns of the networks. This
folder may import no other folder.
"""
