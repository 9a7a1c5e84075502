"""What the verbs of the command line do: report, explain, diff, verify, bench."""
