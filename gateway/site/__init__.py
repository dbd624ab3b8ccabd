"""The pages people see: each renders what the JSON routes answer, and has no power of its own.

words    the two catalogues, and how a day, a moment and a country are written in each language
render   a template, the person's language, and the error page
open     pages for anyone: check a clip, join, sign in, have a clip taken down, the operator's desk
me       pages about my likeness, which only read
account  what forms do about my own account: ways in, sessions, apps that speak for me, my age
acts     what forms on those pages do, by way of the JSON routes' own functions
"""
