"""What zerorpc-python's own tests hold of a server and its client, with servers that connect to the broker.

Every test names the case that it stands for. The cases are those of zerorpc-python 0.6.3.
"""
