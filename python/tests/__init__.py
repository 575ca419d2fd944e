"""Tests of the installed package: `scripts/test.sh python`."""
