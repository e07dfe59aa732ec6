"""Does a class score stay, and does its heat move along, when the object moves?"""
