"""The only place that speaks HTTP outwards."""
