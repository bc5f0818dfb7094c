"""The pumping benchmark: attackers and honest people before a guard that sees what production sees, and nothing else.

`python -m tests.bench.pumping` plays 72 hours of each scenario against verifyd's guard and against the rules that other
systems use, and counts what the attack got, what it cost, and how many honest people were refused.
"""
