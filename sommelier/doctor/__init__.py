"""Examines: a workspace comes in, what is wrong with it and the command that repairs it go out."""
