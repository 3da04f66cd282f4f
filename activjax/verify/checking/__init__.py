"""The checker of proof trees: it shares no code with the search for proofs."""

from activjax.verify.checking._check import Checked as Checked, check as check
