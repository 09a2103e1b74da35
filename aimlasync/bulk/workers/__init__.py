"""A job in several processes. Imports jobs, and what jobs imports.

parent    starts the workers, shows what they do, has their journals taken in
child     one of them
messages  what they tell each other
money     who waits for dollars that another holds
"""
