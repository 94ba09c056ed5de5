"""FaaSpot's API: /v1."""
