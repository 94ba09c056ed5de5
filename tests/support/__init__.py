"""What the tests against the real daemon share."""
