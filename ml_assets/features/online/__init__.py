"""The online side: the newest value of each entity, on SQLite or Redis, equal to the offline join as of now.

`rows` is what is stored, `backends` where, `reader` reads without Feast, `materialize` brings increments. Import the modules directly.
"""
