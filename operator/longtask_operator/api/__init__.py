"""The vocabulary and the wire: names, models, parsing. Pure; knows no rule of admission, sizing or retry."""
