//! Services are built in; a changed one must be built in anew.

fn main() {
    println!("cargo:rerun-if-changed=services");
}
