"""Experiments on people: which of two rankers do they like better?"""
