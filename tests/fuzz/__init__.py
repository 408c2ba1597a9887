"""Fuzzing of every reader: ``python -m fuzz --minutes 10`` with ``tests`` on the path.

A case is a small folder of files, made by a target out of real files and a random number generator. It is read in a
process of its own. Allowed are success and the library's own errors; a failure is any other exception, a dead process,
more than ten seconds of computing, or more than a gigabyte of memory.
"""
