"""Plan to C: templates, the SIMD vocabulary headers, rendering."""
