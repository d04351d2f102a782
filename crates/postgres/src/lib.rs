//! postgres

// Nothing calls it yet outside its own tests.
#[allow(dead_code, unused_imports)]
mod tap;
