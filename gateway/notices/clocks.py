"""How long we have for a notice, by the law of the country it comes from. Data: what a jurist reviews is this table.

Checked on 2026-11-21, in the official title and number of each act and in published summaries of it, not in every
official text. What could not be verified, and so is not in the table:

- KR: a plan of 6 November 2024 lets platforms have 24 hours for sexual deepfakes; which act says so was not found.
- GB: an amendment to the Crime and Policing Bill (announced February 2026) names 48 hours for intimate images; whether
  it is in force was not found. It is our own rule's time.
- AU: 24 hours run from a removal notice of the eSafety Commissioner (Online Safety Act 2021), who does not fill in
  this form. The same holds for India's three hours (rule 3(1)(d)): they run from an order of a court or government.
- EU: Regulation (EU) 2022/2065 art. 16(6) asks for a decision that is timely and diligent, and names no hours.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """`hours` from the confirmed notice to the decision, and the law, or rule of ours, that says so."""

    hours: int
    law: str


OWN = Clock(48, "our own rule: 48 hours, wherever no law that we know asks for less")
_INDIA = Clock(
    2,
    "India: Information Technology (Intermediary Guidelines and Digital Media Ethics Code) Rules, 2021, "
    "rule 3(2)(b), as amended by G.S.R. 120(E) of 10 February 2026, in force since 20 February 2026",
)
_USA = Clock(48, "United States: TAKE IT DOWN Act § 3 (Pub. L. 119-12), 48 hours, in force since 19 May 2026")

CLOCKS: dict[tuple[str, bool], Clock] = {
    # (ISO 3166-1 country, intimate)
    ("IN", True): _INDIA,
    # The same rule names artificially morphed images that impersonate somebody, and every clip of ours is artificial.
    ("IN", False): _INDIA,
    ("US", True): _USA,
}


def clock_of(country: str, *, intimate: bool) -> Clock:
    """The shortest time that the country's law, or our own rule, gives us."""
    return CLOCKS.get((country, intimate), OWN)
