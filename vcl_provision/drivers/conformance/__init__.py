"""The conformance kit: runs the contract against a module and says what to fix.

`check_file(path, against, say)` is what `vcl module check` calls; it returns a Report that prints as plain lines.
"""

from vcl_provision.drivers.conformance.kit import check, check_file
from vcl_provision.drivers.conformance.report import Checked, Report, Verdict
from vcl_provision.drivers.conformance.subject import Subject, subject
from vcl_provision.drivers.conformance.target import Against, against_lab, read_against

__all__ = [
    "Against",
    "Checked",
    "Report",
    "Subject",
    "Verdict",
    "against_lab",
    "check",
    "check_file",
    "read_against",
    "subject",
]
