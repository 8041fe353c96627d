//! Tells the linker where libtorch lies, for `doodl3-evaluator` alone; no other target of this package links it.
//!
//! torch-sys finds libtorch through `LIBTORCH`, which `.cargo/config.toml` points to `third_party/libtorch`, or through
//! `LIBTORCH_USE_PYTORCH`, and passes the folder of its libraries on.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "torch")]
    link_evaluator();
}

/// Compiles the evaluator's pieces of C++ and makes its binary find libtorch however it is started.
#[cfg(feature = "torch")]
fn link_evaluator() {
    const SOURCES: [&str; 2] =
        ["src/bin/doodl3-evaluator/script_buffers.cpp", "src/bin/doodl3-evaluator/program/dispatch.cpp"];
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    println!("cargo::rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let libraries = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys, a direct dependency, tells it");
    let libraries = std::path::Path::new(&libraries);
    let include =
        libraries.parent().expect("libtorch's libraries lie in a folder of its own").join("include");
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    let objects = cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files(SOURCES)
        .compile_intermediates();
    for object in objects {
        argument(&object.display().to_string());
    }
    // Absolute for builds in place; relative for an installation that keeps libtorch in lib/ beside bin/.
    argument(&format!("-Wl,-rpath,{}", libraries.display()));
    argument("-Wl,-rpath,$ORIGIN/../lib");
}

#[cfg(feature = "torch")]
fn argument(argument: &str) {
    println!("cargo::rustc-link-arg-bin=doodl3-evaluator={argument}");
}
