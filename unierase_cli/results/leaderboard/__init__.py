"""A leaderboard: methods by what they make forget, keep private and keep useful, with ranks that say which differences are real.

Input: scored runs and their audits. Output: tables, a csv and a page.
"""
