"""Reprise: do autoregressive music models plan a musical return, or stumble into it?"""

__version__ = "0.1.0"
