//! The cloud as values: rules without I/O, clock, chance, SQL or wire types.
