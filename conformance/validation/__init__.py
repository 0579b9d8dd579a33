"""Do the server and the Python package protovalidate agree on which messages keep the contract's rules?"""
