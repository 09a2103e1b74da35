"""A job in several processes.

parent  starts them, shows what they do, gathers their journals
child   one of them
"""
