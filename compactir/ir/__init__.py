"""The intermediate representation: types, graph, connectivity, channel maps, plan, text form, verifier."""
