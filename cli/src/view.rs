//! Turns data into text for people.

pub mod age;
pub mod amount;
pub mod bindings;
pub mod changes;
pub mod device;
pub mod hats;
pub mod inventory;
pub mod nodes;
pub mod order;
pub mod phones;
pub mod table;
pub mod tokens;
pub mod transitions;
pub mod wearer;
