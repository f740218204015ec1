"""Whether this machine is fit for a scan, and what would make it fitter: ``fusiform doctor``.

Nothing heavy is imported before a check needs it: where a library is broken, that is a finding.
"""
