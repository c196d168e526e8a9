"""What leaves the project: merged models, patches, adapters, and answers in a chat.

Input: a finished edit. Output: folders without forgotten text and without paths of this machine.
"""
