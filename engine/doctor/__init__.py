"""Before a scan: ``doctor`` checks the machine, ``plan`` projects memory, disk and time.

Heavy libraries are imported by the check that needs them: a broken one is a finding.
"""
