"""What an interval is, in an audit."""

# Lower and upper end, of 95 %.
Interval = tuple[float, float]
