//! Phones of a node, slot by slot.
