"""Linear regions of piecewise linear functions: along segments, on planes, in boxes, exactly."""
