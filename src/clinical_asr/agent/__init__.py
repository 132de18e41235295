"""The agent's door: the commands as tools of the Model Context Protocol, over standard input and output.

No command is written a second time: a tool runs the command line as a process of its own, its schema is made from the
command's typed parameters, and what the person alone may allow is asked of the person, through their client.
"""
