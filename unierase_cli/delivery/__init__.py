"""What leaves the project: merged models, patches, adapters, and answers in a chat.

A finished edit comes in. Folders that carry no forgotten text and no path of the machine go out.
"""
