"""What leaves the project: merged models, patches, adapters, and answers in a chat.

In: a finished edit. Out: folders without forgotten text and without paths of this machine.
"""
