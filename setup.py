# Dataflow stages a project that is given with --setup_file=./setup.py; everything is declared in pyproject.toml.
from setuptools import setup

setup()
