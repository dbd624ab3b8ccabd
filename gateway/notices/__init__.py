"""People without an account: notices about clips, and faces that nobody shall generate.

giving     a notice comes in, is confirmed by mail, watched, appealed, taken back
deciding   the operators' queue and decisions; what everyone may know about how we are doing
form       JSON or a form, read
clocks     how long we have, by country
mail       letters
"""
