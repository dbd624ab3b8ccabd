"""Bringing a likeness in: what a person is asked to do on film, what a machine sees in it, and who vouches for them.

A photograph proves nothing about who sends it, nor does a film that could have been made by a machine. So no remote
path activates a likeness: what a person sends is looked at by a machine, which refuses what is certainly wrong
(:mod:`~safety.enrolment.film`), and then waits until an operator has seen them too (:mod:`~safety.enrolment.vouching`).
"""

from safety.enrolment.challenge import Challenge, Turn, new_challenge
from safety.enrolment.vouching import decode_picture, enrol_vouched, pictures

__all__ = ["Challenge", "Turn", "decode_picture", "enrol_vouched", "new_challenge", "pictures"]
