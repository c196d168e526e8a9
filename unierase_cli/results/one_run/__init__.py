"""The report of one run.

Input: its metrics, steps and observations. Output: tables and pictures.
"""
