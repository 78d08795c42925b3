//! Says where the kernel object lies: the committed one, or what the environment variable ADA_BPF_OBJECT names (CI
//! builds ada-trace once more around a freshly built object).

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-env-changed=ADA_BPF_OBJECT");
    let object = std::env::var("ADA_BPF_OBJECT").unwrap_or_else(|_| {
        let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        format!("{manifest}/../ada-ebpf/bytecode/ada.bpf.o")
    });
    assert!(Path::new(&object).is_file(), "{object} is missing: cargo xtask build-ebpf makes it");
    println!("cargo::rerun-if-changed={object}");
    println!("cargo::rustc-env=ADA_BPF_OBJECT={object}");
}
