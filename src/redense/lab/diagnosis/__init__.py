"""What a training did to a network: barrier, curvature, moments, distances."""
