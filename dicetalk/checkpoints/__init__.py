"""Find, verify, load, report, download and convert weights."""
