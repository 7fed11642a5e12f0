"""runsc"""
