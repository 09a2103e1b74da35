import sys

# What one process has compiled, all others of the run read: to compile the package takes longer than most commands.
sys.dont_write_bytecode = False
