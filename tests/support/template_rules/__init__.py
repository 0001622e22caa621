"""What every template of this project must keep to, as functions from the templates to the problems found.

A problem is one line that names the resource. Exceptions are arguments, `{resource: reason}`, so that whoever
calls a rule keeps the reasons written down; one that is no longer needed is a problem as well.
"""
