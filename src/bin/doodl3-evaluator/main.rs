//! The libtorch child.

fn main() {}
